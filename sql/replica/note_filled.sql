-- Notes that the rows of a table that is replicated here are pgfanout's own from now on, and how the table is, which was
-- found to fit the primary's.
-- Parameters: $1 int4: its number; $2 oid: its oid on the primary. Writes pgfanout.filled_table, reads
-- pgfanout.replicated_table and catalogs.
INSERT INTO pgfanout.filled_table AS o (schema_name, table_name, here, there, kept, types, place)
SELECT t.schema_name, t.table_name, c.oid, $2, f.kept, f.types, 'pgfanout.filled_table'::regclass
FROM
    pgfanout.replicated_table t
    JOIN pg_namespace n ON n.nspname = t.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name
    CROSS JOIN pgfanout.form(c.oid, t.columns) f
WHERE t.id = $1
ON CONFLICT (schema_name, table_name) DO UPDATE
SET
    (here, there, kept, types, place) = (excluded.here, excluded.there, excluded.kept, excluded.types, excluded.place),
    made = CASE WHEN o.here = excluded.here THEN o.made ELSE '{}' END
