-- All of a delta that has few entries, as its tables and then its keys: in one statement, since of a single change it is
-- the statements that cost. Runs in the transaction whose snapshot is the delta's end.
-- Parameters: those of delta_entries.sql and delta_tables.sql, which go before as "entry" and "told"; $4 is one more than
-- there are to be. Tables without a key are not for it.
-- Returns the rows of delta_tables.sql, their keys NULL, and whether there are too many entries: what is told is not all
-- then; after them those of delta_keys.sql.
SELECT
    t.until, t.trimmed, t.made, t.table_id, t.definition, t.truncated, t.changes, t.alterations, t.longest, t.packed,
    (SELECT count(*) FROM entry) >= $4::int8 AS too_many,
    NULL::text COLLATE "C" AS key,
    NULL::int8 AS net,
    NULL::text AS old,
    NULL::text AS transaction
FROM told t
UNION ALL
SELECT
    NULL, NULL, NULL, e.table_id, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL,
    e.key,
    sum(CASE e.operation WHEN 'I' THEN 1 WHEN 'D' THEN -1 ELSE 0 END),
    (array_agg(e.old ORDER BY e.logged_at) FILTER (WHERE octet_length(e.old) <= 16384))[1],
    NULL
FROM entry e
WHERE e.key IS NOT NULL
GROUP BY e.table_id, e.key
ORDER BY until, table_id, key
