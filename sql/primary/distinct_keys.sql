-- The keys of a delta in a table of which the log names each once: see keys_are_distinct.sql. As they were logged, so
-- that the first come at once.
-- Parameters: $1 pg_snapshot as text: the delta's start; $2 int4: the table; $3 bool: whether old rows are wanted.
-- Returns what delta_keys.sql does. Reads: pgfanout.changelog as look.sql does.
SELECT
    e.table_id,
    e.key,
    CASE e.operation WHEN 'I' THEN 1 WHEN 'D' THEN -1 ELSE 0 END::int8 AS net,
    CASE WHEN $3 AND octet_length(e.old) <= 16384 THEN e.old END AS old,
    NULL::text AS transaction
FROM
    (
        SELECT table_id, key, operation, old
        FROM pgfanout.changelog
        WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot)
        UNION ALL
        SELECT table_id, key, operation, old
        FROM pgfanout.changelog
        WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
    ) e
WHERE e.table_id = $2
