-- How much of the changelog a replica lacks.
-- Parameters: $1 pg_snapshot as text: where it stands; $2 int8: count no further than this; $3 int8, $4 text:
-- the name of the batch that brought it there.
-- Returns one row: how many entries, how many bytes their keys and old rows take as they are stored, how
-- many seconds ago the oldest was logged (0 if there is none), whether some that it lacks are gone, and
-- whether the batch is of this history, as standing.sql has it.
-- Tables that cannot be captured any more are left out: no batch holds them.
-- Reads pgfanout.changelog by two index scans as look.sql does; the few older transactions come first, so
-- that they count where the limit is reached.
SELECT
    count(*) AS changes,
    coalesce(sum(e.bytes), 0)::int8 AS bytes,
    coalesce(greatest(extract(epoch FROM clock_timestamp() - min(e.logged_at)), 0), 0)::float8 AS seconds,
    coalesce(
        (SELECT pg_snapshot_xmin($1::text::pg_snapshot) < i.trimmed_before FROM pgfanout.installation i),
        false
    ) AS trimmed,
    (
        pg_snapshot_xmax($1::text::pg_snapshot) <= pg_snapshot_xmax(pg_current_snapshot())
        AND (
            EXISTS (SELECT FROM pgfanout.batch b WHERE b.number = $3 AND b.token::text = $4)
            OR $3 < (SELECT min(b.number) FROM pgfanout.batch b)
        )
    ) AS known
FROM
    (
        SELECT c.logged_at, coalesce(pg_column_size(c.key), 0) + coalesce(pg_column_size(c.old), 0) AS bytes
        FROM
            (
                SELECT table_id, key, old, logged_at
                FROM pgfanout.changelog
                WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
                UNION ALL
                SELECT table_id, key, old, logged_at
                FROM pgfanout.changelog
                WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot)
            ) c
        WHERE c.table_id = ANY (ARRAY(SELECT t.id FROM pgfanout.captured_table t WHERE t.broken IS NULL))
        LIMIT $2
    ) e
