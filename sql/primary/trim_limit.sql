-- Up to where the changelog can be trimmed.
-- Parameters: $1 int4: hours that changes are kept for replicas that are away; $2 int8: bytes that the
-- changelog may take; $3 bool: whether batches are published, so that the next one's start counts.
-- Returns a transaction, below which entries can go (NULL if none is there), and whether that leaves
-- behind a replica that still needs them.
-- Reads pgfanout.changelog (its first entries), pgfanout.replica, pgfanout.batch.
WITH
    needed AS (
        -- No replica yet: whoever comes starts with a copy.
        SELECT least(
            (SELECT min(pg_snapshot_xmin(r."position")) FROM pgfanout.replica r),
            (
                SELECT pg_snapshot_xmin(b.from_snapshot)
                FROM pgfanout.batch b
                WHERE b.replica IS NULL AND $3::bool
                ORDER BY b.number DESC
                LIMIT 1
            ),
            pg_snapshot_xmin(pg_current_snapshot())
        ) AS xid
    ),
    -- Of live entries alone: the file keeps the room of those that are gone.
    size AS (
        SELECT
            pg_stat_get_live_tuples('pgfanout.changelog'::regclass)
            * coalesce(
                (
                    SELECT avg(pg_column_size(e.*) + 40)
                    FROM (SELECT c.* FROM pgfanout.changelog c ORDER BY c.xid LIMIT 1000) e
                ),
                0
            ) AS bytes
    ),
    first_entry AS (SELECT c.xid, c.logged_at FROM pgfanout.changelog c ORDER BY c.xid LIMIT 1),
    too_old AS (
        -- Some entry far enough: entries are about as old as their transactions.
        SELECT max(e.xid) AS xid
        FROM
            (
                SELECT c.xid, c.logged_at
                FROM pgfanout.changelog c
                ORDER BY c.xid
                LIMIT 100000
            ) e
        WHERE
            (SELECT f.logged_at FROM first_entry f) < clock_timestamp() - make_interval(hours => $1::int4)
            AND e.logged_at < clock_timestamp() - make_interval(hours => $1::int4)
    ),
    too_much AS (
        SELECT max(e.xid) AS xid
        FROM
            (
                SELECT c.xid
                FROM pgfanout.changelog c
                ORDER BY c.xid
                LIMIT CASE WHEN (SELECT s.bytes FROM size s) > $2::int8 THEN 100000 ELSE 0 END
            ) e
    ),
    chosen AS (
        SELECT n.xid AS needed, least(greatest(n.xid, o.xid, m.xid), pg_snapshot_xmin(pg_current_snapshot())) AS xid
        FROM needed n, too_old o, too_much m
    )
SELECT
    CASE WHEN EXISTS (SELECT FROM first_entry f WHERE f.xid < c.xid) THEN c.xid::text END AS before,
    c.xid > c.needed AND EXISTS (SELECT FROM first_entry f WHERE f.xid < c.xid) AS forced
FROM chosen c
