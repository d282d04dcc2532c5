-- Has a table copied again.
-- Parameters: $1 int4: its number; $2 pg_snapshot as text: where the copy starts; $3, $4 int8: rows and
-- bytes to expect; $5 int8: the table's definition. Writes pgfanout.replicated_table, pgfanout.copy_chunk.
WITH
    forgotten AS (DELETE FROM pgfanout.copy_chunk WHERE table_id = $1)
UPDATE pgfanout.replicated_table
SET
    snapshot = $2::text::pg_snapshot,
    copying = true,
    definition = $5,
    rows_expected = $3,
    bytes_expected = $4,
    copy_started_at = clock_timestamp()
WHERE id = $1
