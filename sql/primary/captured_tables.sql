-- The tables that are captured, each with how large it is, the last transaction that changed its rows
-- without a trigger's knowledge, and why it is not captured any more, if so. Reads pgfanout.captured_table, catalogs.
SELECT
    t.id,
    t.relation,
    t.schema_name,
    t.table_name,
    t.columns,
    t.key_columns,
    t.definition,
    t.rewritten::text AS rewritten,
    t.broken,
    size.rows,
    size.bytes
FROM
    pgfanout.captured_table t
    CROSS JOIN LATERAL (
        -- The table or, if it is partitioned, its leaves.
        SELECT
            coalesce(sum(greatest(c.reltuples, 0)), 0)::int8 AS rows,
            coalesce(sum(pg_table_size(c.oid)), 0)::int8 AS bytes
        FROM pg_class c
        WHERE c.oid = ANY (t.leaves || t.relation)
    ) size
ORDER BY t.schema_name, t.table_name
