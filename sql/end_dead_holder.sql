-- Ends the session that holds an advisory lock, if it is that of a seat and has shown no sign of life for a
-- while: it asks nothing, or the server waits for it to go on.
-- Parameters: $1 int8: the lock's number; $2 float8: for how many seconds.
-- Returns a row if there was such a session. Reads pg_locks, where the number stands in two halves.
SELECT pg_terminate_backend(a.pid)
FROM
    pg_locks l
    JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
    JOIN pg_stat_activity a ON a.pid = l.pid
WHERE
    l.locktype = 'advisory'
    AND l.classid::int8 = ($1::int8 >> 32) & 4294967295
    AND l.objid::int8 = $1 & 4294967295
    AND l.objsubid = 1
    AND l.granted
    AND a.application_name LIKE 'pgfanout seat %'
    AND (a.state LIKE 'idle%' OR a.wait_event_type = 'Client')
    AND greatest(a.state_change, a.query_start) < clock_timestamp() - make_interval(secs => $2::float8)
