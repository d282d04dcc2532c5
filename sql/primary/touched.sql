-- Which of some keys of a table changed since a snapshot, up to that of the transaction that asks.
-- Parameters: $1 pg_snapshot as text; $2 int4: the table; $3 text[]: keys as the changelog has them.
-- Returns those keys, each once; whether all rows may have changed (the table was truncated, or rewritten
-- without its triggers' knowledge); whether changes since the snapshot are gone from the changelog; the
-- number of the table's definition (NULL if it is not captured any more).
-- Reads: pgfanout.changelog as look.sql does; pgfanout.installation, pgfanout.captured_table.
WITH
    entry AS (
        SELECT key, keys FROM pgfanout.changelog WHERE table_id = $2 AND xid >= pg_snapshot_xmax($1::text::pg_snapshot)
        UNION ALL
        SELECT key, keys
        FROM pgfanout.changelog
        WHERE table_id = $2 AND xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
    )
SELECT
    ARRAY(
        SELECT e.key FROM entry e WHERE e.key = ANY ($3::text[])
        UNION
        SELECT k.key FROM entry e CROSS JOIN LATERAL unnest(e.keys) k (key) WHERE k.key = ANY ($3::text[])
    ) AS keys,
    EXISTS (SELECT FROM entry e WHERE e.key IS NULL AND e.keys IS NULL)
        OR coalesce(NOT pg_visible_in_snapshot(t.rewritten, $1::text::pg_snapshot), false) AS whole,
    i.trimmed_before > pg_snapshot_xmin($1::text::pg_snapshot) AS trimmed,
    t.definition
FROM pgfanout.installation i LEFT JOIN pgfanout.captured_table t ON t.id = $2 AND t.broken IS NULL
