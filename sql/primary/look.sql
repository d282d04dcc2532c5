-- Whether anything changed since a snapshot, without holding anything: one statement, one moment.
-- Parameters: $1 pg_snapshot as text; $2 int4[]: the tables that matter, NULL for all.
-- Returns the moment of the look, the tables with changes, broken ones left out, and whether changes since
-- the snapshot are gone from the changelog.
-- Reads: pgfanout.installation; pgfanout.changelog by two index scans: what began after the snapshot, and what it saw running.
SELECT
    pg_current_snapshot()::text AS now,
    ARRAY(
        SELECT DISTINCT c.table_id
        FROM
            (
                SELECT table_id FROM pgfanout.changelog WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot)
                UNION ALL
                SELECT table_id
                FROM pgfanout.changelog
                WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
            ) c
            JOIN pgfanout.captured_table t ON t.id = c.table_id AND t.broken IS NULL
        WHERE $2::int4[] IS NULL OR c.table_id = ANY ($2)
    ) AS tables,
    EXISTS (
        SELECT FROM pgfanout.installation i WHERE i.trimmed_before > pg_snapshot_xmin($1::text::pg_snapshot)
    ) AS trimmed
