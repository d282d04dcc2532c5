-- Moves a table that stands apart, if it is where we believe it to be.
-- Parameters: $1 int4: its number; $2 pg_snapshot as text: where it stands; $3 pg_snapshot as text: where it
-- moves; $4 int8, $5 text: the name of the batch that moves it.
-- Affects one row, or none: nothing may be committed then. Writes pgfanout.replicated_table.
UPDATE pgfanout.replicated_table
SET snapshot = $3::text::pg_snapshot, number = $4, token = $5::text::uuid
WHERE id = $1 AND snapshot::text = $2
