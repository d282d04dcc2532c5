-- The keys of a delta, each once; the rows of tables without a key, once for each transaction. Runs in the
-- transaction whose snapshot is the delta's end.
-- Parameters: those of delta_entries.sql, which goes before as "entry"; $5 int4[]: those of the tables that have no key.
-- Returns table, the key as it was logged (the text of a row, where it has several columns), how many more
-- times the key came than went (so that whether the row was there at the start follows from whether it is
-- there at the end, in whatever order the log was written), the row as it was at the start, in JSON, where it was
-- logged and is not large: it is for listeners only; and the transaction, of a row without a key.
SELECT
    e.table_id,
    e.key,
    sum(CASE e.operation WHEN 'I' THEN 1 WHEN 'D' THEN -1 ELSE 0 END) AS net,
    (array_agg(e.old ORDER BY e.logged_at) FILTER (WHERE octet_length(e.old) <= 16384))[1] AS old,
    (CASE WHEN e.table_id = ANY ($5::int4[]) THEN e.xid END)::text AS transaction
FROM entry e
WHERE e.key IS NOT NULL
GROUP BY e.table_id, e.key, CASE WHEN e.table_id = ANY ($5::int4[]) THEN e.xid END
-- Of equal rows those that came are first: what is removed before it is there stays.
ORDER BY e.table_id, e.key, net DESC
