-- The tables that are replicated here and are gone.
-- Returns for each its number and its name, and the installation on the primary that numbered it.
-- Reads: pgfanout.replicated_table, pgfanout.position, catalogs.
SELECT t.id, t.schema_name, t.table_name, p.epoch::text AS epoch
FROM pgfanout.replicated_table t CROSS JOIN pgfanout.position p
WHERE
    NOT EXISTS (
        SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = t.schema_name AND c.relname = t.table_name AND c.relkind IN ('r', 'p')
    )
