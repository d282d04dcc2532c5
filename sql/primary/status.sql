-- What the primary tells of itself, cheaply: no table of ours is read as a whole. What `status` asks, and the body of
-- the view pgfanout_status.primary.
-- Returns one row. publisher: what the process does that passes changes on, in a word. It holds an advisory lock,
-- whose number stands here in two halves; its session's name shows what holds it up, as publisher.rs has it.
-- changelog_logged: how many changes were ever logged, by the server's statistics; changelog_logged_per_second: how fast
-- that grew since about a minute ago, NULL if none was applied then.
-- last_batch: the last that was cut, for one replica alone or for all; last_batch_for_all: the last that was cut to
-- be published; NULL where there is none.
-- Reads pgfanout.installation, pgfanout.batch, pgfanout.asleep, pgfanout.recent, statistics of pgfanout.changelog, pg_locks,
-- pg_stat_activity, which shows names of sessions to members of pg_read_all_stats alone.
SELECT
    i.epoch::text AS epoch,
    CASE
        WHEN h.holder IS NULL THEN 'down'
        WHEN h.holder = 'pgfanout seat publisher: broker blocked' THEN 'blocked'
        WHEN h.holder = 'pgfanout seat publisher: broker not connected' THEN 'disconnected'
        WHEN (SELECT s.last_value = 1 FROM pgfanout.asleep s) THEN 'waiting'
        ELSE 'publishing'
    END AS publisher,
    s.entries AS changelog_entries,
    s.bytes AS changelog_bytes,
    s.logged AS changelog_logged,
    greatest(s.logged - m.logged, 0) / extract(epoch FROM clock_timestamp() - m.noted_at)::float8
        AS changelog_logged_per_second,
    l.number AS last_batch,
    l.published AS last_batch_published,
    l.cut_at AS last_batch_cut_at,
    l.seconds_ago AS last_batch_seconds_ago,
    a.number AS last_batch_for_all,
    a.published AS last_batch_for_all_published,
    a.cut_at AS last_batch_for_all_cut_at,
    a.seconds_ago AS last_batch_for_all_seconds_ago
FROM
    pgfanout.installation i
    CROSS JOIN (
        SELECT
            sum(pg_stat_get_live_tuples(p.inhrelid))::int8 AS entries,
            sum(pg_total_relation_size(p.inhrelid))::int8 AS bytes,
            sum(pg_stat_get_tuples_inserted(p.inhrelid))::int8 AS logged
        FROM pg_inherits p
        WHERE p.inhparent = 'pgfanout.changelog'::regclass
    ) s
    LEFT JOIN LATERAL (
        SELECT r.logged, r.noted_at
        FROM pgfanout.recent r
        WHERE
            r.noted_at > clock_timestamp() - interval '2 minutes'
            AND r.noted_at < clock_timestamp() - interval '40 seconds'
        ORDER BY r.noted_at DESC
        LIMIT 1
    ) m ON true
    LEFT JOIN (
        SELECT coalesce(max(a.application_name), '') AS holder
        FROM
            pg_locks k
            JOIN pg_database d ON d.oid = k.database AND d.datname = current_database()
            LEFT JOIN pg_stat_activity a ON a.pid = k.pid
        WHERE
            k.locktype = 'advisory'
            AND k.classid = 1885824609
            AND k.objid = 1852798324
            AND k.objsubid = 1
            AND k.granted
        HAVING count(*) > 0
    ) h ON true
    LEFT JOIN LATERAL (
        SELECT
            b.number,
            b.published,
            b.cut_at,
            greatest(extract(epoch FROM clock_timestamp() - b.cut_at), 0)::float8 AS seconds_ago
        FROM pgfanout.batch b
        ORDER BY b.number DESC
        LIMIT 1
    ) l ON true
    LEFT JOIN LATERAL (
        SELECT
            b.number,
            b.published,
            b.cut_at,
            greatest(extract(epoch FROM clock_timestamp() - b.cut_at), 0)::float8 AS seconds_ago
        FROM pgfanout.batch b
        WHERE b.replica IS NULL
        ORDER BY b.number DESC
        LIMIT 1
    ) a ON true
