-- Ends sessions of ours that are still there; says how many those are.
-- A pooler may have given such a process to somebody else since, or to the session that asks: those stay.
-- Parameters: $1 int4[]: their processes; $2 timestamptz[] as text[]: since when each runs.
SELECT count(pg_terminate_backend(a.pid))
FROM
    unnest($1::int4[], $2::text[]) AS o (pid, started)
    JOIN pg_stat_activity a ON a.pid = o.pid AND a.backend_start = o.started::timestamptz
WHERE a.pid <> pg_backend_pid() AND a.application_name LIKE 'pgfanout%'
