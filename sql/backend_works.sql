-- Whether a session of ours executes a statement; otherwise it waits for its client.
-- Parameters: $1 int4: its process; $2 timestamptz as text: since when it runs.
-- Returns works: NULL if the server does not keep track of what sessions do; tells_of_copies: whether it knows
-- how far a COPY is (since version 14). No row if the session has ended.
SELECT
    CASE
        WHEN a.state = 'disabled' THEN NULL
        ELSE a.state = 'active' AND a.wait_event_type IS DISTINCT FROM 'Client'
    END AS works,
    current_setting('server_version_num')::int4 >= 140000 AS tells_of_copies
FROM pg_stat_activity a
WHERE a.pid = $1 AND a.backend_start = $2::text::timestamptz
