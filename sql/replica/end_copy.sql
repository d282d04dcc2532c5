-- Marks a table as ready to join the others, also if it was set aside.
-- Parameters: $1 int4: the table; $2 text: the copy that ended, or was the last. Writes
-- pgfanout.replicated_table, pgfanout.copy_chunk, pgfanout.isolated_table.
WITH
    forgotten AS (DELETE FROM pgfanout.copy_chunk WHERE table_id = $1 AND copy = $2::text::uuid),
    ready AS (
        UPDATE pgfanout.replicated_table SET copying = false WHERE id = $1 AND copy = $2::text::uuid RETURNING id
    )
DELETE FROM pgfanout.isolated_table i USING ready r WHERE i.id = r.id
