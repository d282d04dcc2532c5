-- How many bytes a session of ours has received of what a COPY ... FROM STDIN sends. Since version 14.
-- Parameters: $1 int4: its process.
-- Returns no row unless it runs one.
SELECT p.bytes_processed AS bytes
FROM pg_stat_progress_copy p
WHERE p.pid = $1 AND p.command = 'COPY FROM'
