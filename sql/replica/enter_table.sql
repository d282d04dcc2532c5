-- Registers a table whose copy starts now.
-- Parameters: $1 int4: its number; $2, $3 text: schema and name; $4, $5 text[]: columns and key; $6 int8:
-- definition; $7 bool: whether pgfanout made it; $8 pg_snapshot as text: where the copy starts; $9 int8,
-- $10 text: the name of that moment; $11, $12 int8: rows and bytes to expect.
-- Writes pgfanout.replicated_table, pgfanout.isolated_table.
WITH
    back AS (DELETE FROM pgfanout.isolated_table WHERE id = $1)
INSERT INTO pgfanout.replicated_table (
    id, schema_name, table_name, columns, key_columns, definition, created, snapshot, number, token, copy,
    copying, rows_expected, bytes_expected
)
VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8::text::pg_snapshot, $9, $10::text::uuid, $10::text::uuid, true, $11, $12
)
