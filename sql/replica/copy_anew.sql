-- Has a table copied again, also if it was set aside.
-- Parameters: $1 int4: its number; $2 pg_snapshot as text: where the copy starts; $3 int8, $4 text: the name
-- of that moment; $5, $6 int8: rows and bytes to expect; $7 int8: the table's definition.
-- Writes pgfanout.replicated_table, pgfanout.copy_chunk, pgfanout.isolated_table.
WITH
    forgotten AS (DELETE FROM pgfanout.copy_chunk WHERE table_id = $1),
    back AS (DELETE FROM pgfanout.isolated_table WHERE id = $1)
UPDATE pgfanout.replicated_table
SET
    snapshot = $2::text::pg_snapshot,
    number = $3,
    token = $4::text::uuid,
    copy = $4::text::uuid,
    copying = true,
    definition = $7,
    rows_expected = $5,
    bytes_expected = $6,
    copy_started_at = clock_timestamp()
WHERE id = $1
