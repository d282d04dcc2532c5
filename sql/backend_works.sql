-- Whether a session of ours executes a statement; otherwise it waits for its client.
-- Parameters: $1 int4: its process; $2 timestamptz as text: since when it runs.
-- Returns no row if it has ended, NULL if the server does not keep track of what sessions do.
SELECT
    CASE
        WHEN a.state = 'disabled' THEN NULL
        ELSE a.state = 'active' AND a.wait_event_type IS DISTINCT FROM 'Client'
    END AS works
FROM pg_stat_activity a
WHERE a.pid = $1 AND a.backend_start = $2::text::timestamptz
