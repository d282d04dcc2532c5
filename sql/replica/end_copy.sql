-- Marks a table as ready to join the others.
-- Parameters: $1 int4: the table; $2 text: the copy that ended. Writes pgfanout.replicated_table,
-- pgfanout.copy_chunk.
WITH
    forgotten AS (DELETE FROM pgfanout.copy_chunk WHERE table_id = $1 AND copy = $2::text::uuid)
UPDATE pgfanout.replicated_table SET copying = false WHERE id = $1 AND copy = $2::text::uuid
