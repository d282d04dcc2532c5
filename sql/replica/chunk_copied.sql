-- Notes that a piece was copied, and the last name of the primary's history that its rows are no later than.
-- Parameters: $1 int4: the table; $2 text: the copy; $3 int4: the piece; $4, $5 int8: rows and bytes; $6
-- int8, $7 text: the name; $8 pg_snapshot as text: where the table stands by this, NULL if where it stood.
-- Affects one row; none if the piece was copied by another process, or the copy was begun anew: nothing of
-- it may be committed then. Writes pgfanout.copy_chunk, pgfanout.replicated_table.
WITH
    named AS (
        UPDATE pgfanout.replicated_table
        SET
            number = CASE WHEN number < $6 THEN $6 ELSE number END,
            token = CASE WHEN number < $6 THEN $7::text::uuid ELSE token END,
            snapshot = coalesce($8::text::pg_snapshot, snapshot)
        WHERE id = $1 AND copy = $2::text::uuid
        RETURNING id
    )
UPDATE pgfanout.copy_chunk c
SET row_count = $4, byte_count = $5, copied_at = clock_timestamp()
FROM named n
WHERE c.table_id = n.id AND c.copy = $2::text::uuid AND c.number = $3 AND c.row_count IS NULL
