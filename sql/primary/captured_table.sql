-- A captured table's registration.
-- Parameters: $1 int4: its number.
-- Returns no row if it is not captured, or its capture is broken.
SELECT relation, schema_name, table_name, columns, key_columns, definition
FROM pgfanout.captured_table
WHERE id = $1 AND broken IS NULL
