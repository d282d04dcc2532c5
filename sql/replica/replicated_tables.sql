-- The tables that are replicated here, those that vanished included: their oid is NULL.
-- Reads: pgfanout.replicated_table, catalogs.
SELECT
    t.id,
    t.schema_name,
    t.table_name,
    c.oid,
    t.columns,
    t.key_columns,
    t.definition,
    t.created,
    t.snapshot::text AS snapshot,
    t.number,
    t.token::text AS token,
    t.copy::text AS copy,
    t.copying
FROM
    pgfanout.replicated_table t
    LEFT JOIN (
        pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace AND c.relkind IN ('r', 'p')
    ) ON n.nspname = t.schema_name AND c.relname = t.table_name
ORDER BY t.id
