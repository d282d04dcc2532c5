-- What tells this session from all others that ever were on the server: its process and since when it runs.
-- Run after the settings of a session, so that the time reads the same everywhere.
SELECT a.pid, a.backend_start::text AS backend_start
FROM pg_catalog.pg_stat_activity a
WHERE a.pid = pg_catalog.pg_backend_pid()
