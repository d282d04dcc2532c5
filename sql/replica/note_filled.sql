-- Notes that a table's rows are pgfanout's own from now on: what was there is gone.
-- Parameters: $1, $2 text: schema and name; $3 oid: the table's number on the primary.
-- Writes pgfanout.filled_table, reads catalogs.
INSERT INTO pgfanout.filled_table (schema_name, table_name, here, there)
SELECT n.nspname, c.relname, c.oid, $3
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1::text AND c.relname = $2::text
ON CONFLICT (schema_name, table_name) DO UPDATE SET here = excluded.here, there = excluded.there
