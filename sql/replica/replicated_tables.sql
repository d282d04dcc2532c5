-- The tables that are replicated here, those that vanished included: their oid is NULL. form: as sql/replica/form.sql has
-- it, which goes before as "form". lost: the table, one of its columns or partitions is gone, or another, and what was in
-- it. altered: it is to be compared with the primary's again.
-- Reads: pgfanout.replicated_table, pgfanout.filled_table, catalogs.
SELECT
    t.id,
    t.schema_name,
    t.table_name,
    c.oid,
    form.form,
    t.columns,
    t.key_columns,
    t.definition,
    t.created,
    t.snapshot::text AS snapshot,
    t.number,
    t.token::text AS token,
    t.copy::text AS copy,
    t.copying,
    coalesce(cardinality(now.types), 0) < cardinality(t.columns)
    OR coalesce(f.here <> c.oid, false)
    OR NOT coalesce(f.kept <@ now.kept, true) AS lost,
    f.types IS DISTINCT FROM now.types AS altered
FROM
    pgfanout.replicated_table t
    LEFT JOIN (
        pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace AND c.relkind IN ('r', 'p')
    ) ON n.nspname = t.schema_name AND c.relname = t.table_name
    LEFT JOIN form ON form.oid = c.oid
    LEFT JOIN LATERAL pgfanout.form(c.oid, t.columns) now ON c.oid IS NOT NULL
    LEFT JOIN pgfanout.filled_table f ON (f.schema_name, f.table_name) = (t.schema_name, t.table_name)
ORDER BY t.id
