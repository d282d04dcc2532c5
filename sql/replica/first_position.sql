-- Notes where a replica stands none of whose tables stands anywhere yet, or moves it there.
-- Parameters: $1 text: the primary's epoch; $2 pg_snapshot as text: the moment; $3 int8, $4, $5 text: its
-- name and the publisher's term. Writes pgfanout.position, which the caller locks: there is to be one row.
WITH
    moved AS (
        UPDATE pgfanout.position
        SET
            epoch = $1::text::uuid,
            snapshot = $2::text::pg_snapshot,
            number = $3,
            token = $4::text::uuid,
            term = $5,
            applied_at = clock_timestamp()
        RETURNING number
    )
INSERT INTO pgfanout.position (epoch, snapshot, number, token, term)
SELECT $1::text::uuid, $2::text::pg_snapshot, $3, $4::text::uuid, $5
WHERE NOT EXISTS (SELECT FROM moved)
