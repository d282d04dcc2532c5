-- The tables that are replicated here, those that vanished included: their oid is NULL. lost: the table or
-- one of its columns is gone, and what was in it.
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
    t.copying,
    (
        SELECT count(*)
        FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attname = ANY (t.columns) AND a.attnum > 0 AND NOT a.attisdropped
    ) < cardinality(t.columns) AS lost
FROM
    pgfanout.replicated_table t
    LEFT JOIN (
        pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace AND c.relkind IN ('r', 'p')
    ) ON n.nspname = t.schema_name AND c.relname = t.table_name
ORDER BY t.id
