-- The tables of a delta. Runs in the transaction whose snapshot is the delta's end.
-- Parameters: those of delta_entries.sql, which goes before as "entry".
-- Returns at least one row: the end, whether changes since the start are gone from the changelog, and how often it was
-- logged that a table was made; then for each changed table its id (NULL where nothing changed), the number of its
-- definition, whether it was truncated, how many changes the log has, how many of its entries say that it was altered, how
-- many bytes the longest key has (of those that share an entry, on an average), and whether some share one.
-- Reads: pgfanout.installation, pgfanout.captured_table.
WITH
    logged AS MATERIALIZED (
        SELECT e.table_id, bool_or(e.operation = 'T') AS truncated, sum(coalesce(cardinality(e.keys), 1)) AS changes,
            count(*) FILTER (WHERE e.operation = 'A') AS alterations,
            max(coalesce(octet_length(e.key), octet_length(array_to_string(e.keys, '')) / cardinality(e.keys) + 1))
                AS longest,
            bool_or(e.keys IS NOT NULL) AS packed
        FROM entry e
        GROUP BY e.table_id
    )
SELECT
    pg_current_snapshot()::text AS until,
    EXISTS (
        SELECT FROM pgfanout.installation i WHERE i.trimmed_before > pg_snapshot_xmin($1::text::pg_snapshot)
    ) AS trimmed,
    coalesce((SELECT l.changes FROM logged l WHERE l.table_id = 0), 0) AS made,
    c.table_id,
    c.definition,
    c.truncated,
    c.changes,
    c.alterations,
    c.longest,
    c.packed
FROM
    (SELECT 1) AS always
    LEFT JOIN (
        SELECT l.table_id, t.definition, l.truncated, l.changes, l.alterations, l.longest, l.packed
        FROM logged l JOIN pgfanout.captured_table t ON t.id = l.table_id AND t.broken IS NULL
    ) c ON true
