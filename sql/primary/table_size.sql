-- How large a captured table is, in rows as they were counted last, and in bytes. Parameters: $1 int4: its id.
-- Reads pgfanout.captured_table, catalogs. Waits for those who hold the table in ACCESS EXCLUSIVE mode.
SELECT
    coalesce(sum(greatest(c.reltuples, 0)), 0)::int8 AS rows,
    coalesce(sum(pg_table_size(c.oid)), 0)::int8 AS bytes
FROM pgfanout.captured_table t
-- The table or, if it is partitioned, its leaves.
JOIN pg_class c ON c.oid = ANY (t.leaves || t.relation)
WHERE t.id = $1
