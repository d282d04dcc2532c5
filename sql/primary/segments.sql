-- The segments of the changelog, and what still needs them.
-- Parameters: $1 bool: whether batches are published, so that the next one's start counts.
-- Returns a row for each segment: its number, whether it is the one that is written, its size, the highest
-- transaction in it (NULL where it is empty), and the age of that one's entry; and with each the same: from
-- which transaction on entries are needed, by whom (a replica, '' for the publisher, NULL for nobody), and the
-- age of the first that is.
-- Reads pgfanout.changelog (an entry or two of each segment), pgfanout.replica, pgfanout.batch.
WITH
    needed AS (
        -- No replica yet: whoever comes starts with a copy.
        SELECT h.xid, h.name
        FROM
            (
                SELECT pg_snapshot_xmin(r."position") AS xid, r.name
                FROM pgfanout.replica r
                UNION ALL
                (
                    SELECT pg_snapshot_xmin(CASE WHEN b.published THEN b.to_snapshot ELSE b.from_snapshot END), ''
                    FROM pgfanout.batch b
                    WHERE b.replica IS NULL AND $1::bool
                    ORDER BY b.number DESC
                    LIMIT 1
                )
                UNION ALL
                SELECT pg_snapshot_xmin(pg_current_snapshot()), NULL
            ) h
        -- A replica that is away before the publisher, which waits at the same place while it is busy.
        ORDER BY h.xid, h.name = '', h.name
        LIMIT 1
    ),
    first AS (
        SELECT c.logged_at
        FROM pgfanout.changelog c
        WHERE c.xid >= (SELECT n.xid FROM needed n)
        ORDER BY c.xid
        LIMIT 1
    )
SELECT
    s.number,
    s.number = (SELECT w.last_value FROM pgfanout.segment w) AS written,
    pg_total_relation_size(format('pgfanout.changelog_%s', s.number)::regclass) AS bytes,
    newest.xid::text AS newest,
    coalesce(extract(epoch FROM clock_timestamp() - newest.logged_at), 0)::float8 AS age,
    n.xid::text AS needed,
    n.name AS holder,
    coalesce(extract(epoch FROM clock_timestamp() - (SELECT f.logged_at FROM first f)), 0)::float8 AS behind
FROM
    generate_series(0::int8, 2) s (number)
    CROSS JOIN needed n
    LEFT JOIN LATERAL (
        SELECT c.xid, c.logged_at
        FROM pgfanout.changelog c
        WHERE c.segment = s.number
        ORDER BY c.xid DESC
        LIMIT 1
    ) newest ON true
