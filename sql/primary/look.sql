-- Whether anything changed since a snapshot, without holding anything: one statement, one moment.
-- Parameters: $1 pg_snapshot as text; $2 int4[]: the tables that matter, NULL for all; $3 int4[]: those that do not.
-- Returns the moment of the look, the tables with changes as far as a thousand entries tell, broken ones left out, with
-- the numbers of their definitions; those of them that were altered; how often it was logged that a table was made;
-- whether there are more entries; and whether changes since the snapshot are gone from the changelog.
-- Reads: pgfanout.installation; pgfanout.changelog by two index scans: what began after the snapshot, and what
-- it saw running.
WITH
    -- At once: whatever is joined with it, the changelog is read but once.
    logged AS MATERIALIZED (
        SELECT f.table_id, bool_or(f.operation = 'A') AS altered, count(*) AS entries
        FROM
            (
                SELECT e.table_id, e.operation
                FROM
                    (
                        SELECT table_id, operation
                        FROM pgfanout.changelog
                        WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot)
                        UNION ALL
                        SELECT table_id, operation
                        FROM pgfanout.changelog
                        WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
                    ) e
                WHERE ($2::int4[] IS NULL OR e.table_id = ANY ($2)) AND e.table_id <> ALL ($3::int4[])
                LIMIT 1000
            ) f
        GROUP BY f.table_id
    )
SELECT
    pg_current_snapshot()::text AS now,
    coalesce(array_agg(t.id), '{}') AS tables,
    coalesce(array_agg(t.definition), '{}') AS definitions,
    coalesce(array_agg(t.id) FILTER (WHERE l.altered), '{}') AS altered,
    coalesce((SELECT l.entries FROM logged l WHERE l.table_id = 0), 0) AS made,
    (SELECT coalesce(sum(l.entries), 0) >= 1000 FROM logged l) AS more,
    EXISTS (
        SELECT FROM pgfanout.installation i WHERE i.trimmed_before > pg_snapshot_xmin($1::text::pg_snapshot)
    ) AS trimmed
FROM logged l JOIN pgfanout.captured_table t ON t.id = l.table_id AND t.broken IS NULL
