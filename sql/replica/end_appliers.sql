-- Ends the sessions that apply or copy, but for those that began after a pause was noted: they see it themselves.
-- Parameters: $1 text: the replica; $2 timestamptz as text: a moment after the pause was noted.
-- Returns a row for each that was there still.
SELECT pg_terminate_backend(a.pid)
FROM pg_stat_activity a
WHERE
    a.datname = current_database()
    AND a.application_name IN (left('pgfanout applier ' || $1::text, 63), left('pgfanout copy ' || $1::text, 63))
    AND a.backend_start < $2::text::timestamptz
