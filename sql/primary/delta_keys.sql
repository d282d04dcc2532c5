-- The keys of a delta, each once; the rows of tables without a key, once for each transaction. Runs in the
-- transaction whose snapshot is the delta's end.
-- Parameters: $1 pg_snapshot as text: the delta's start; $2 int4[]: the tables that matter; $3 int4[]: those of them that
-- have no key.
-- Returns table, the key as it was logged (the text of a row, where it has several columns), how many more
-- times the key came than went (so that whether the row was there at the start follows from whether it is
-- there at the end, in whatever order the log was written), the row as it was at the start, in JSON, where it was
-- logged and is not large: it is for listeners only; and the transaction, of a row without a key.
-- Reads: pgfanout.changelog as look.sql does.
SELECT
    c.table_id,
    c.key,
    sum(CASE c.operation WHEN 'I' THEN 1 WHEN 'D' THEN -1 ELSE 0 END) AS net,
    (array_agg(c.old ORDER BY c.logged_at) FILTER (WHERE octet_length(c.old) <= 16384))[1] AS old,
    (CASE WHEN c.table_id = ANY ($3::int4[]) THEN c.xid END)::text AS transaction
FROM
    (
        SELECT e.table_id, e.key, e.operation, e.old, e.logged_at, e.xid
        FROM
            (
                SELECT table_id, key, operation, old, logged_at, xid
                FROM pgfanout.changelog
                WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot)
                UNION ALL
                SELECT table_id, key, operation, old, logged_at, xid
                FROM pgfanout.changelog
                WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
            ) e
        WHERE e.key IS NOT NULL AND e.table_id = ANY ($2::int4[])
    ) c
GROUP BY c.table_id, c.key, CASE WHEN c.table_id = ANY ($3::int4[]) THEN c.xid END
-- Of equal rows those that came are first: what is removed before it is there stays.
ORDER BY c.table_id, c.key, net DESC
