-- Notes where a replica stands none of whose tables stands anywhere yet, or moves it there.
-- Parameters: $1 text: the primary's epoch; $2 pg_snapshot as text: the moment; $3 int8, $4, $5 text: its
-- name and the publisher's term. Writes pgfanout.position.
INSERT INTO pgfanout.position (epoch, snapshot, number, token, term)
VALUES ($1::text::uuid, $2::text::pg_snapshot, $3, $4::text::uuid, $5)
ON CONFLICT (singleton) DO UPDATE
SET
    epoch = excluded.epoch,
    snapshot = excluded.snapshot,
    number = excluded.number,
    token = excluded.token,
    term = excluded.term,
    applied_at = clock_timestamp()
