-- The entries of the log that a delta has. Goes before the statements of its tables and keys, as "entry", or as "logged"
-- before delta_unpacked.sql.
-- Parameters: $1 pg_snapshot as text: the delta's start; $2 int4[]: the tables that matter, NULL for all; $3 int4[]:
-- those that do not; $4 int8: how many entries to read at most, NULL for all.
-- Reads: pgfanout.changelog as look.sql does.
SELECT e.table_id, e.operation, e.key, e.keys, e.old, e.logged_at, e.xid
FROM
    (
        SELECT table_id, operation, key, keys, old, logged_at, xid
        FROM pgfanout.changelog
        WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot)
        UNION ALL
        SELECT table_id, operation, key, keys, old, logged_at, xid
        FROM pgfanout.changelog
        WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
    ) e
WHERE ($2::int4[] IS NULL OR e.table_id = ANY ($2)) AND e.table_id <> ALL ($3::int4[])
LIMIT $4::int8
