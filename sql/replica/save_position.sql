-- Moves the replica's position, if it is where we believe it to be: another process may have applied
-- something while we slept.
-- Parameters: $1 text: the snapshot it moves from; $2 text: the one it moves to; $3 int8, $4 text: the
-- name of the batch.
-- Affects one row, or none if the position is another. Writes pgfanout.position.
UPDATE pgfanout.position
SET
    snapshot = $2::text::pg_snapshot,
    number = $3,
    token = $4::text::uuid,
    applied_at = clock_timestamp()
WHERE snapshot::text = $1
