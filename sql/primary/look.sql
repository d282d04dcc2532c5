-- Whether anything changed since a snapshot, without holding anything: one statement, one moment.
-- Parameters: $1 pg_snapshot as text; $2 int4[]: the tables that matter, NULL for all.
-- Returns the moment of the look, the tables with changes as far as a thousand entries tell, broken ones left out, with
-- the numbers of their definitions, and whether changes since the snapshot are gone from the changelog.
-- Reads: pgfanout.installation; pgfanout.changelog by two index scans: what began after the snapshot, and what
-- it saw running.
WITH
    -- At once: whatever is joined with it, the changelog is read but once.
    logged AS MATERIALIZED (
        SELECT DISTINCT f.table_id
        FROM
            (
                SELECT e.table_id
                FROM
                    (
                        SELECT table_id
                        FROM pgfanout.changelog
                        WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot)
                        UNION ALL
                        SELECT table_id
                        FROM pgfanout.changelog
                        WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
                    ) e
                WHERE $2::int4[] IS NULL OR e.table_id = ANY ($2)
                LIMIT 1000
            ) f
    )
SELECT
    pg_current_snapshot()::text AS now,
    coalesce(array_agg(t.id), '{}') AS tables,
    coalesce(array_agg(t.definition), '{}') AS definitions,
    EXISTS (
        SELECT FROM pgfanout.installation i WHERE i.trimmed_before > pg_snapshot_xmin($1::text::pg_snapshot)
    ) AS trimmed
FROM logged l JOIN pgfanout.captured_table t ON t.id = l.table_id AND t.broken IS NULL
