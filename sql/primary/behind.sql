-- How much of the changelog a replica lacks. For status, and for who reads the view pgfanout_status.replicas: runs as
-- its owner, and tells neither keys nor rows.
-- Parameters: since: where the replica stands; number, token: the name of the batch that brought it there; most: count
-- no further than this, some tenths of a second.
-- Returns how many changes, and whether there are more than were counted; how many bytes their keys and old rows take
-- as they are stored; how many seconds ago the oldest was logged (0 if there is none); whether some that it lacks are
-- gone; and whether the batch is of this history, as standing.sql has it.
-- Tables that cannot be captured any more are left out: no batch holds them.
-- Reads pgfanout.changelog by two index scans as look.sql does, and never as a whole; the few older transactions come
-- first, so that they count where the limit is reached.
CREATE OR REPLACE FUNCTION pgfanout.behind(
    since pg_catalog.pg_snapshot, number pg_catalog.int8, token pg_catalog.text,
    most pg_catalog.int8 DEFAULT 1000000,
    OUT changes pg_catalog.int8, OUT at_least pg_catalog.bool, OUT bytes pg_catalog.int8,
    OUT seconds pg_catalog.float8, OUT trimmed pg_catalog.bool, OUT known pg_catalog.bool)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
SELECT
    coalesce(sum(e.changes), 0)::int8,
    count(*) >= most,
    coalesce(sum(e.bytes), 0)::int8,
    coalesce(greatest(extract(epoch FROM clock_timestamp() - min(e.logged_at)), 0), 0)::float8,
    coalesce((SELECT pg_snapshot_xmin(since) < i.trimmed_before FROM pgfanout.installation i), false),
    (
        pg_snapshot_xmax(since) <= pg_snapshot_xmax(pg_current_snapshot())
        AND (
            EXISTS (
                SELECT FROM pgfanout.batch b WHERE b.number = behind.number AND b.token::text = behind.token
            )
            OR behind.number < (SELECT min(b.number) FROM pgfanout.batch b)
        )
    )
FROM
    (
        SELECT
            c.logged_at,
            coalesce(cardinality(c.keys), 1) AS changes,
            coalesce(pg_column_size(c.key), pg_column_size(c.keys), 0) + coalesce(pg_column_size(c.old), 0) AS bytes
        FROM
            (
                SELECT table_id, key, keys, old, logged_at
                FROM pgfanout.changelog
                WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip(since)))
                UNION ALL
                SELECT table_id, key, keys, old, logged_at
                FROM pgfanout.changelog
                WHERE xid >= pg_snapshot_xmax(since)
            ) c
        WHERE c.table_id = ANY (ARRAY(SELECT t.id FROM pgfanout.captured_table t WHERE t.broken IS NULL))
        LIMIT most
    ) e
$$;
