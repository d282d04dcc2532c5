-- Marks a table as ready to join the others. Parameters: $1 int4: the table.
-- Writes pgfanout.replicated_table, pgfanout.copy_chunk.
WITH
    forgotten AS (DELETE FROM pgfanout.copy_chunk WHERE table_id = $1)
UPDATE pgfanout.replicated_table SET copying = false WHERE id = $1
