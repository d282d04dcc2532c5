-- How long changes took to the replicas in the last minutes, by half minutes of the primary's clock. What `status` asks,
-- and the body of the view pgfanout_status.recent.
-- Returns for each half minute in which a replica moved when it began and how many half minutes ago that was (0: the
-- one that goes on), the longest delay, and how many changes were applied.
-- Reads pgfanout.recent.
SELECT
    r.replica AS name,
    r.began_at,
    floor(extract(epoch FROM clock_timestamp()) / 30)::int8 - floor(extract(epoch FROM r.began_at) / 30)::int8 AS half_minutes_ago,
    r.delay_seconds,
    r.changes
FROM pgfanout.recent r
