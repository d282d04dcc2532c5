-- The tables that were altered since a snapshot, where a look could not see all entries of the changelog.
-- Parameters: $1 pg_snapshot as text.
-- Returns their numbers. Reads: pgfanout.changelog as look.sql does.
SELECT DISTINCT e.table_id
FROM
    (
        SELECT table_id, operation
        FROM pgfanout.changelog
        WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot)
        UNION ALL
        SELECT table_id, operation
        FROM pgfanout.changelog
        WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
    ) e
WHERE e.operation = 'A'
