-- Whether a process applies to the replica, which is whether somebody holds an advisory lock, whose number stands
-- here in two halves; and where the replica stands, NULL before its first table. What `status` asks, and in the view
-- pgfanout_status.replica.
-- Reads pgfanout.position, pg_locks.
SELECT
    EXISTS (
        SELECT
        FROM pg_locks k JOIN pg_database d ON d.oid = k.database AND d.datname = current_database()
        WHERE
            k.locktype = 'advisory'
            AND k.classid = 1885824609
            AND k.objid = 1852798324
            AND k.objsubid = 1
            AND k.granted
    ) AS applied_to,
    p.epoch::text AS epoch,
    p.snapshot,
    p.number AS batch,
    p.token::text AS token,
    p.applied_at,
    CASE
        WHEN p.applied_at IS NOT NULL THEN greatest(extract(epoch FROM clock_timestamp() - p.applied_at), 0)::float8
    END AS seconds_ago
FROM
    (SELECT) one
    LEFT JOIN (SELECT * FROM pgfanout.position ORDER BY number DESC LIMIT 1) p ON true
