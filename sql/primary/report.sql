-- Notes where a replica stands.
-- Parameters: $1 text: its name; $2 pg_snapshot as text: the oldest snapshot it needs; $3 int8, $4 text:
-- the name of the batch it applied last; $5 text: its state.
-- Writes pgfanout.replica.
INSERT INTO pgfanout.replica (name, "position", number, token, state, reported_at)
VALUES ($1, $2::text::pg_snapshot, $3, $4::text::uuid, $5, clock_timestamp())
ON CONFLICT (name) DO UPDATE
SET
    "position" = excluded."position",
    number = excluded.number,
    token = excluded.token,
    state = excluded.state,
    reported_at = excluded.reported_at
