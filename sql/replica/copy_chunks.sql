-- The pieces of a table that were planned for its copy, in order.
-- Parameters: $1 int4: the table; $2 text: the copy. Reads pgfanout.copy_chunk.
SELECT number, "after", "until", row_count, byte_count
FROM pgfanout.copy_chunk
WHERE table_id = $1 AND copy = $2::text::uuid
ORDER BY number
