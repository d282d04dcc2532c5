-- Notes that a replica needs an operator. Parameters: $1 text: its name; $2 text: why.
-- Writes pgfanout.replica, if the replica is registered.
UPDATE pgfanout.replica
SET state = 'halted', detail = jsonb_build_object('error', $2::text), reported_at = clock_timestamp()
WHERE name = $1
