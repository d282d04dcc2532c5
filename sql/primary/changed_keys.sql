-- The keys of a delta, each once, for those who only want to know which. Runs in the transaction whose snapshot is
-- the delta's end.
-- Parameters: those of delta_entries.sql, which goes before as "entry".
-- Returns table and key as delta_keys.sql does, and nothing in the place of the rest: tables without a key are not for
-- it. The fence has the keys hashed, not all entries sorted.
SELECT d.table_id, d.key, 0::int8 AS net, NULL::text AS old, NULL::text AS transaction
FROM (SELECT DISTINCT e.table_id, e.key FROM entry e WHERE e.key IS NOT NULL OFFSET 0) d
ORDER BY d.table_id, d.key
