-- Where the replica stands; no row before its first table. Reads pgfanout.position.
SELECT
    p.epoch::text AS epoch,
    p.snapshot::text AS snapshot,
    p.number,
    p.token::text AS token,
    to_char(p.applied_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS applied_at
FROM pgfanout.position p
ORDER BY p.number DESC
LIMIT 1
