-- Whether the log names each key of a table only once in a delta, as far as that can be told without comparing all of
-- them: the table's entries are all of rows that came, all of rows that went (between two of one key there is one of
-- the other kind), or all of one statement. Runs in the transaction whose snapshot is the delta's end.
-- Parameters: $1 pg_snapshot as text: the delta's start; $2 int4: the table.
-- Returns one row; it ends at the first entry that says no. Reads: pgfanout.changelog as look.sql does.
WITH
    -- Twice as it stands: the first entry is there at once, and the rest is not gathered.
    entries AS NOT MATERIALIZED (
        SELECT e.operation, e.xid, e.cmin
        FROM
            (
                SELECT table_id, operation, xid, cmin
                FROM pgfanout.changelog
                WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot)
                UNION ALL
                SELECT table_id, operation, xid, cmin
                FROM pgfanout.changelog
                WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
            ) e
        WHERE e.table_id = $2
    ),
    first AS (SELECT operation, xid, cmin FROM entries LIMIT 1)
SELECT
    EXISTS (SELECT FROM first) AND NOT EXISTS (
        SELECT
        FROM first f, entries e
        WHERE
            e.operation <> f.operation
            OR NOT (f.operation IN ('I', 'D') OR (e.xid = f.xid AND e.cmin = f.cmin))
    ) AS are_distinct
