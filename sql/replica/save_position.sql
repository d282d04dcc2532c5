-- Moves the replica's position, if it is where we believe it to be: another process may have applied
-- something while we slept; and if the tables that were written are as they were when we looked: nothing wrong is applied
-- to one that was altered. sql/replica/form.sql goes before as "form".
-- The transaction's last statement, sent with the COMMIT.
-- Parameters: $1 text: the token of the batch at which it stands; $2 text: the snapshot it moves to; $3
-- int8, $4, $5 text: the name of the batch that moves it, and its term; $6 int8: the number that goes with $1;
-- $7 oid[], $8 int8[]: the tables, and what each had there when we looked.
-- Returns 1, or raises division_by_zero if the position or a table is another, so that nothing is committed.
-- Writes pgfanout.position, reads catalogs.
    moved AS (
        UPDATE pgfanout.position
        SET
            snapshot = $2::text::pg_snapshot,
            number = $3,
            token = $4::text::uuid,
            term = $5,
            applied_at = clock_timestamp()
        WHERE
            number = $6
            AND token = $1::text::uuid
            AND NOT EXISTS (
                SELECT FROM unnest($7::oid[], $8::int8[]) w (oid, form) LEFT JOIN form f ON f.oid = w.oid
                WHERE f.form IS DISTINCT FROM w.form
            )
        RETURNING number
    )
SELECT 1 / count(*) AS moved FROM moved
