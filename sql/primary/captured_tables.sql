-- The tables that are captured. Reads pgfanout.captured_table.
SELECT id, relation, schema_name, table_name, columns, key_columns, definition
FROM pgfanout.captured_table
WHERE broken IS NULL
ORDER BY schema_name, table_name
