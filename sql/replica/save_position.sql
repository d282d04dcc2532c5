-- Moves the replica's position, if it is where we believe it to be: another process may have applied
-- something while we slept.
-- Parameters: $1 text: the token of the batch at which it stands; $2 text: the snapshot it moves to; $3
-- int8, $4, $5 text: the name of the batch that moves it, and its term; $6 int8: the number that goes with $1.
-- Affects one row, or none if the position is another. Writes pgfanout.position.
UPDATE pgfanout.position
SET
    snapshot = $2::text::pg_snapshot,
    number = $3,
    token = $4::text::uuid,
    term = $5,
    applied_at = clock_timestamp()
WHERE number = $6 AND token = $1::text::uuid
