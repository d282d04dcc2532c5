-- Registers a replica, so that no change from now on is trimmed before it has it.
-- Parameters: $1 text: its name.
-- Returns the present. A replica that is registered already holds what it held, which is older.
-- Writes pgfanout.replica.
INSERT INTO pgfanout.replica (name, "position", state, reported_at)
VALUES ($1, pg_current_snapshot(), 'copying', clock_timestamp())
ON CONFLICT (name) DO UPDATE SET reported_at = clock_timestamp()
RETURNING pg_current_snapshot()::text
