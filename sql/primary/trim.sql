-- Deletes entries of the changelog, and notes how far: a replica that needs older ones is copied anew.
-- Parameters: $1 xid8 as text: entries of older transactions go; $2 int8: how many at most.
-- Returns how many went. Writes pgfanout.changelog, pgfanout.installation.
WITH
    gone AS (
        DELETE FROM pgfanout.changelog
        WHERE
            ctid = ANY (
                ARRAY(
                    SELECT c.ctid
                    FROM pgfanout.changelog c
                    WHERE c.xid < $1::text::xid8
                    ORDER BY c.xid
                    LIMIT $2
                )
            )
        RETURNING xid
    ),
    last AS (SELECT max(g.xid) AS xid, count(*) AS entries FROM gone g),
    noted AS (
        UPDATE pgfanout.installation i
        SET trimmed_before = ((l.xid::text::numeric) + 1)::text::xid8
        FROM last l
        WHERE l.xid >= i.trimmed_before
    )
SELECT l.entries FROM last l
