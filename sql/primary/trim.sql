-- Notes that entries up to those of a segment are about to go: a replica that needs them is copied anew.
-- Parameters: $1 int8: the segment, locked against writers; $2 text: a transaction: if entries of it or later
-- ones came meanwhile, nothing is to go.
-- Returns whether the segment may go. Reads pgfanout.changelog, writes pgfanout.installation.
WITH
    -- There is no max(xid8) before PostgreSQL 15.
    newest AS (
        SELECT (SELECT c.xid FROM pgfanout.changelog c WHERE c.segment = $1 ORDER BY c.xid DESC LIMIT 1) AS xid
    ),
    noted AS (
        UPDATE pgfanout.installation i
        SET trimmed_before = greatest(i.trimmed_before, ((n.xid::text::numeric) + 1)::text::xid8)
        FROM newest n
        WHERE n.xid < $2::text::xid8
    )
SELECT coalesce(n.xid < $2::text::xid8, true) AS free FROM newest n
