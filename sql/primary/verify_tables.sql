-- Which captured tables log all their changes: a trigger may have been disabled or dropped.
-- Returns table and whether it does. Reads pgfanout.captured_table, pg_trigger.
SELECT t.id, pgfanout.triggers_are_complete(t) AS complete FROM pgfanout.captured_table t
