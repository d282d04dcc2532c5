-- The keys of a delta in a table of which the log names each once: see keys_are_distinct.sql. As they were logged, so
-- that the first come at once.
-- Parameters: those of delta_entries.sql, which goes before as "entry"; $5 bool: whether old rows are wanted.
-- Returns what delta_keys.sql does.
SELECT
    e.table_id,
    e.key,
    CASE e.operation WHEN 'I' THEN 1 WHEN 'D' THEN -1 ELSE 0 END::int8 AS net,
    CASE WHEN $5 AND octet_length(e.old) <= 16384 THEN e.old END AS old,
    NULL::text AS transaction
FROM entry e
