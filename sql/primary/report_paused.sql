-- Notes that a replica was paused. It keeps its place: the changelog waits for it.
-- Parameters: $1 text: its name. Writes pgfanout.replica.
UPDATE pgfanout.replica
SET state = 'paused', detail = NULL, reported_at = clock_timestamp()
WHERE name = $1
