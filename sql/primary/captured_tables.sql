-- The tables that are captured, each with the last transaction that changed its rows without a trigger's knowledge,
-- and why it is not captured any more, if so. Reads pgfanout.captured_table; waits for no lock.
SELECT
    t.id,
    t.relation,
    t.schema_name,
    t.table_name,
    t.columns,
    t.key_columns,
    t.definition,
    t.rewritten::text AS rewritten,
    t.rewritten_definition,
    t.broken
FROM pgfanout.captured_table t
ORDER BY t.schema_name, t.table_name
