-- Ends what a seat's last holder left: the sessions it worked with and, if it had to be ended itself, those
-- that hold locks and snapshots for nobody.
-- Parameters: $1 text[]: their application names; $2 bool: whether it had to be ended; $3 float8: for how many
-- seconds it was silent. Only the seat's holder may call it.
SELECT pg_terminate_backend(a.pid)
FROM pg_stat_activity a
WHERE
    a.datname = current_database()
    AND a.usename = current_user
    AND a.pid <> pg_backend_pid()
    AND (
        a.application_name IN (SELECT left(n.name, 63) FROM unnest($1::text[]) AS n (name))
        OR (
            $2::bool
            AND a.application_name LIKE 'pgfanout %'
            AND a.state LIKE 'idle in transaction%'
            AND a.state_change < clock_timestamp() - make_interval(secs => $3::float8)
        )
    )
