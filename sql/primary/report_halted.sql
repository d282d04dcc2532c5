-- Notes that a replica needs an operator, also one that this primary does not know.
-- Parameters: $1 text: its name; $2 text: why. Writes pgfanout.replica.
INSERT INTO pgfanout.replica (name, "position", state, detail, reported_at)
VALUES ($1, pg_current_snapshot(), 'halted', jsonb_build_object('error', $2::text), clock_timestamp())
ON CONFLICT (name) DO UPDATE
SET state = excluded.state, detail = excluded.detail, reported_at = excluded.reported_at
