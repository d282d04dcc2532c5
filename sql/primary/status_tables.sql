-- The tables that were chosen: their numbers and names, and why a table is not captured any more. What `status` asks,
-- and the body of the view pgfanout_status.captured_tables.
-- Reads pgfanout.captured_table.
SELECT t.id, format('%I.%I', t.schema_name, t.table_name) AS name, t.broken
FROM pgfanout.captured_table t
ORDER BY t.schema_name, t.table_name
