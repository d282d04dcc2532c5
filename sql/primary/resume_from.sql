-- Where the next batch to all starts.
-- Returns one snapshot: the last such batch's end if it was published, its start if that is not known
-- (a delta may be cut again: it holds states), and the present where there was none yet.
-- Reads: pgfanout.batch.
SELECT
    coalesce(
        (
            SELECT CASE WHEN b.published THEN b.to_snapshot ELSE b.from_snapshot END
            FROM pgfanout.batch b
            WHERE b.replica IS NULL
            ORDER BY b.number DESC
            LIMIT 1
        ),
        pg_current_snapshot()
    )::text AS resume_from
