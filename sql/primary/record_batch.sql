-- Records that a batch is cut, before anybody sees it.
-- Parameters: $1 text: the replica that catches up, NULL for a batch to all; $2 pg_snapshot as text: where batches go
-- on if this one is lost, the delta's start or that of an earlier batch which may be lost with it; $3 its end; $4 float8:
-- for how many seconds its changes may have been waiting since their commit, NULL if that is not known: then, and where
-- it is long, it is looked up when one of the oldest was logged.
-- Returns its number and token, and the publisher's term (empty if none began since the server was started).
-- Reads pgfanout.installation, pgfanout.changelog by two index scans; writes pgfanout.batch; its commit must be
-- synchronous.
INSERT INTO pgfanout.batch (replica, from_snapshot, to_snapshot, changed_at)
VALUES (
    $1,
    $2::text::pg_snapshot,
    $3::text::pg_snapshot,
    CASE
        WHEN $4::float8 <= 1 THEN clock_timestamp() - $4 * interval '1 second'
        ELSE
            coalesce(
                (
                    SELECT greatest(min(e.logged_at), clock_timestamp() - $4 * interval '1 second')
                    FROM
                        (
                            (
                                SELECT logged_at
                                FROM pgfanout.changelog
                                WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($2::text::pg_snapshot)))
                                ORDER BY xid
                                LIMIT 1
                            )
                            UNION ALL
                            (
                                SELECT logged_at
                                FROM pgfanout.changelog
                                WHERE xid >= pg_snapshot_xmax($2::text::pg_snapshot)
                                ORDER BY xid
                                LIMIT 1
                            )
                        ) e
                    HAVING count(*) > 0
                ),
                clock_timestamp()
            )
    END
)
RETURNING
    number,
    token::text,
    coalesce(
        (SELECT i.term FROM pgfanout.installation i WHERE i.term_server = pg_postmaster_start_time())::text, ''
    ) AS term
