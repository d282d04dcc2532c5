-- The columns of a table here that pgfanout made, and the primary's table does not have any more; without such on which
-- anything hangs that is somebody's. And generated columns that are computed from these, which come first.
-- Parameters: $1 int4: its number; $2 text[]: the primary's columns. Returns their names, quoted. Reads
-- pgfanout.replicated_table, pgfanout.filled_table, catalogs.
WITH
    target AS (
        SELECT c.oid, f.made
        FROM
            pgfanout.replicated_table t
            JOIN pgfanout.filled_table f ON (f.schema_name, f.table_name) = (t.schema_name, t.table_name)
            JOIN pg_class c ON c.oid = f.here AND c.relname = t.table_name
            JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.schema_name
        WHERE t.id = $1
    ),
    superfluous AS (
        SELECT pgfanout.attached(t.oid, ARRAY[a.attname::text], NULL) AS things, t.made
        FROM target t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE a.attname <> ALL ($2::text[])
    )
SELECT quote_ident(a.attname)
FROM target t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0
WHERE EXISTS (
    SELECT FROM superfluous s
    WHERE s.things <@ s.made AND concat_ws(' ', 'pg_class'::regclass::oid, a.attrelid, a.attnum) = ANY (s.things)
)
ORDER BY a.attgenerated = '', a.attnum
