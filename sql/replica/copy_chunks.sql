-- The pieces of a table that were planned, in order.
-- Parameters: $1 int4: the table. Reads pgfanout.copy_chunk.
SELECT number, "after", "until", row_count, byte_count
FROM pgfanout.copy_chunk
WHERE table_id = $1
ORDER BY number
