-- The keys of a delta, each once, for those who only want to know which. Runs in the transaction whose snapshot is
-- the delta's end.
-- Parameters: $1 pg_snapshot as text: the delta's start; $2 int4[]: the tables that matter.
-- Returns table and key as delta_keys.sql does, and nothing in the place of the rest: tables without a key are not for
-- it. The fence has the keys hashed,
-- not all entries sorted.
-- Reads: pgfanout.changelog as look.sql does.
SELECT d.table_id, d.key, 0::int8 AS net, NULL::text AS old, NULL::text AS transaction
FROM
    (
        SELECT DISTINCT e.table_id, e.key
        FROM
            (
                SELECT table_id, key
                FROM pgfanout.changelog
                WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot)
                UNION ALL
                SELECT table_id, key
                FROM pgfanout.changelog
                WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
            ) e
        WHERE e.key IS NOT NULL AND e.table_id = ANY ($2::int4[])
        OFFSET 0
    ) d
ORDER BY d.table_id, d.key
