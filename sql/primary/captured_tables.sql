-- The tables that are captured, each with how large it is, and the last transaction that changed its
-- rows without a trigger's knowledge. Reads pgfanout.captured_table, catalogs.
SELECT
    t.id,
    t.relation,
    t.schema_name,
    t.table_name,
    t.columns,
    t.key_columns,
    t.definition,
    t.rewritten::text AS rewritten,
    greatest(size.rows, 0)::int8 AS rows,
    size.bytes::int8 AS bytes
FROM
    pgfanout.captured_table t
    CROSS JOIN LATERAL (
        -- The table or, if it is partitioned, its leaves.
        SELECT sum(c.reltuples) AS rows, sum(pg_table_size(c.oid)) AS bytes
        FROM
            pg_partition_tree(t.relation) p
            JOIN pg_class c ON c.oid = p.relid
        WHERE p.isleaf
    ) size
WHERE t.broken IS NULL
ORDER BY t.schema_name, t.table_name
