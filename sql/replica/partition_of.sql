-- What keeps a table from standing by itself, as it does on the primary: that it is a partition, on whatever level, of
-- a table that is replicated, and what is written to it would be seen there. Parameters: $1 text: its quoted name.
-- Returns its parent's quoted name; no row if it may stand by itself.
-- Reads pgfanout.replicated_table and the catalogs.
SELECT format('%I.%I', n.nspname, p.relname) AS parent
FROM
    pg_class c
    JOIN pg_inherits i ON i.inhrelid = c.oid
    JOIN pg_class p ON p.oid = i.inhparent
    JOIN pg_namespace n ON n.oid = p.relnamespace
WHERE
    c.oid = to_regclass($1)
    AND c.relispartition
    AND EXISTS (
        SELECT
        FROM
            pg_partition_ancestors(p.oid) a
            JOIN pg_class r ON r.oid = a.relid
            JOIN pg_namespace m ON m.oid = r.relnamespace
            JOIN pgfanout.replicated_table t ON t.schema_name = m.nspname AND t.table_name = r.relname
    )
