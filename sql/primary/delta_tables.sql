-- The tables of a delta. Runs in the transaction whose snapshot is the delta's end.
-- Parameters: those of delta_entries.sql, which goes before as "entry".
-- Returns at least one row: the end, whether changes since the start are gone from the changelog, and how often it was
-- logged that a table was made; then for each changed table its id (NULL where nothing changed), the number of its
-- definition, whether it was truncated, how many entries the log has, how many of them say that it was altered, and how
-- many bytes the longest key has.
-- Reads: pgfanout.installation, pgfanout.captured_table.
WITH
    logged AS MATERIALIZED (
        SELECT e.table_id, bool_or(e.operation = 'T') AS truncated, count(*) AS entries,
            count(*) FILTER (WHERE e.operation = 'A') AS alterations, max(octet_length(e.key)) AS longest
        FROM entry e
        GROUP BY e.table_id
    )
SELECT
    pg_current_snapshot()::text AS until,
    EXISTS (
        SELECT FROM pgfanout.installation i WHERE i.trimmed_before > pg_snapshot_xmin($1::text::pg_snapshot)
    ) AS trimmed,
    coalesce((SELECT l.entries FROM logged l WHERE l.table_id = 0), 0) AS made,
    c.table_id,
    c.definition,
    c.truncated,
    c.entries,
    c.alterations,
    c.longest
FROM
    (SELECT 1) AS always
    LEFT JOIN (
        SELECT l.table_id, t.definition, l.truncated, l.entries, l.alterations, l.longest
        FROM logged l JOIN pgfanout.captured_table t ON t.id = l.table_id AND t.broken IS NULL
    ) c ON true
