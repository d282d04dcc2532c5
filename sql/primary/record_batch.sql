-- Records that a batch is cut, before anybody sees it.
-- Parameters: $1 text: the replica that catches up, NULL for a batch to all; $2 pg_snapshot as text: where batches go
-- on if this one is lost, the delta's start or that of an earlier batch which may be lost with it; $3 its end.
-- Returns its number and token, and the publisher's term (empty if none began since the server was started).
-- Reads pgfanout.installation, writes pgfanout.batch; its commit must be synchronous.
INSERT INTO pgfanout.batch (replica, from_snapshot, to_snapshot)
VALUES ($1, $2::text::pg_snapshot, $3::text::pg_snapshot)
RETURNING
    number,
    token::text,
    coalesce(
        (SELECT i.term FROM pgfanout.installation i WHERE i.term_server = pg_postmaster_start_time())::text, ''
    ) AS term
