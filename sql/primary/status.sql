-- What the primary tells of itself, cheaply: no table of ours is read as a whole.
-- Parameters: $1 bool: only a batch that was cut for all counts as the last one.
-- Returns one row; without any batch its columns are NULL.
-- Reads pgfanout.installation, pgfanout.batch, pgfanout.asleep, statistics of pgfanout.changelog.
SELECT
    i.epoch::text AS epoch,
    s.entries AS changelog_entries,
    s.bytes AS changelog_bytes,
    (SELECT s.last_value = 1 FROM pgfanout.asleep s) AS asleep,
    b.number AS batch,
    b.published,
    to_char(b.cut_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS cut_at,
    greatest(extract(epoch FROM clock_timestamp() - b.cut_at), 0)::float8 AS cut_seconds_ago
FROM
    pgfanout.installation i
    CROSS JOIN (
        SELECT
            sum(pg_stat_get_live_tuples(p.inhrelid))::int8 AS entries,
            sum(pg_total_relation_size(p.inhrelid))::int8 AS bytes
        FROM pg_inherits p
        WHERE p.inhparent = 'pgfanout.changelog'::regclass
    ) s
    LEFT JOIN LATERAL (
        SELECT l.number, l.published, l.cut_at
        FROM pgfanout.batch l
        WHERE l.replica IS NULL OR NOT $1
        ORDER BY l.number DESC
        LIMIT 1
    ) b ON true
