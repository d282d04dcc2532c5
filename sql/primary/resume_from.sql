-- Where the next batch to all starts. The first time the present is noted as the end of a batch: whoever
-- comes after a crash starts there, and misses nothing that was committed in between.
-- Returns one snapshot: the last such batch's end if it was published; if that is not known, the start that its record
-- keeps, which is that of the first batch then under way (a delta may be cut again: it holds states).
-- Reads and writes pgfanout.batch; only the holder of the publisher's lock may call it.
WITH
    last AS (
        SELECT CASE WHEN b.published THEN b.to_snapshot ELSE b.from_snapshot END AS snapshot
        FROM pgfanout.batch b
        WHERE b.replica IS NULL
        ORDER BY b.number DESC
        LIMIT 1
    ),
    first AS (
        INSERT INTO pgfanout.batch (from_snapshot, to_snapshot, published)
        SELECT pg_current_snapshot(), pg_current_snapshot(), true
        WHERE NOT EXISTS (SELECT FROM last)
        RETURNING to_snapshot AS snapshot
    )
SELECT coalesce((SELECT l.snapshot FROM last l), (SELECT f.snapshot FROM first f))::text AS resume_from
