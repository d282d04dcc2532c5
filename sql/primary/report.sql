-- Notes where a replica stands and how it came there, and answers with what it should know.
-- Parameters: $1 text: its name; $2 pg_snapshot as text: the oldest snapshot it needs; $3 int8, $4 text:
-- the oldest name of a batch that it noted; $5 text: its state; $6 int8[], $7 int8[], $8 float8[]: its moves since the
-- last report: by number the batch at which it stood, the one that moved it, and how many seconds ago it committed; $9
-- int8: how many changes it applied with them.
-- Returns the end of the last batch for all that was published, as is noted, or as is likely, since another one was
-- cut after it (or the replica's own snapshot, if there was none): a replica that does not reach it while
-- nothing comes has missed something; and from which transaction on the changelog is whole.
-- Writes pgfanout.replica unless nothing changed within a minute, and pgfanout.recent if it moved: an idle system leaves
-- the disk alone.
-- The changes of a move waited at most since the oldest of the first batch that the replica had not: the first for all
-- after the one at which it stood, or what it read for itself.
WITH
    told AS (
        INSERT INTO pgfanout.replica (name, "position", number, token, state, reported_at)
        SELECT $1, $2::text::pg_snapshot, $3, $4::text::uuid, $5, clock_timestamp()
        WHERE
            NOT EXISTS (
                SELECT
                FROM pgfanout.replica r
                WHERE
                    r.name = $1
                    AND r."position"::text = $2
                    AND r.state = $5
                    AND r.reported_at > clock_timestamp() - interval '1 minute'
            )
        ON CONFLICT (name) DO UPDATE
        SET
            "position" = excluded."position",
            number = excluded.number,
            token = excluded.token,
            state = excluded.state,
            detail = NULL,
            reported_at = excluded.reported_at
    ),
    moved AS (
        SELECT
            to_timestamp(floor(extract(epoch FROM m.at) / 30) * 30) AS began_at,
            max(greatest(extract(epoch FROM m.at - coalesce(b.changed_at, b.cut_at)), 0))::float8 AS delay_seconds
        FROM
            (
                SELECT u.since, u.until, clock_timestamp() - u.ago * interval '1 second' AS at
                FROM unnest($6::int8[], $7::int8[], $8::float8[]) u (since, until, ago)
            ) m
            CROSS JOIN LATERAL (
                SELECT f.changed_at, f.cut_at
                FROM pgfanout.batch f
                WHERE f.number > m.since AND f.number <= m.until AND (f.replica IS NULL OR f.number = m.until)
                ORDER BY f.number
                LIMIT 1
            ) b
        GROUP BY 1
    ),
    noted AS (
        INSERT INTO pgfanout.recent AS n (replica, began_at, delay_seconds, changes, logged, noted_at)
        SELECT
            $1,
            m.began_at,
            m.delay_seconds,
            CASE WHEN m.began_at = max(m.began_at) OVER () THEN $9::int8 ELSE 0 END,
            (
                SELECT coalesce(sum(pg_stat_get_tuples_inserted(p.inhrelid)), 0)::int8
                FROM pg_inherits p
                WHERE p.inhparent = 'pgfanout.changelog'::regclass
            ),
            clock_timestamp()
        FROM moved m
        ON CONFLICT (replica, began_at) DO UPDATE
        SET
            delay_seconds = greatest(n.delay_seconds, excluded.delay_seconds),
            changes = n.changes + excluded.changes,
            logged = excluded.logged,
            noted_at = excluded.noted_at
    ),
    -- The last before those minutes stays: it tells that the replica was there.
    forgotten AS (
        DELETE FROM pgfanout.recent r
        WHERE
            r.replica = $1
            AND EXISTS (SELECT FROM moved)
            AND r.began_at < (
                SELECT max(o.began_at)
                FROM pgfanout.recent o
                WHERE o.replica = $1 AND o.began_at < clock_timestamp() - interval '15 minutes'
            )
    )
SELECT
    coalesce(
        (
            SELECT b.to_snapshot
            FROM pgfanout.batch b
            WHERE
                b.replica IS NULL
                AND (
                    b.published
                    OR b.number < (SELECT max(l.number) FROM pgfanout.batch l WHERE l.replica IS NULL)
                )
            ORDER BY b.number DESC
            LIMIT 1
        )::text,
        $2
    ) AS published,
    (SELECT i.trimmed_before FROM pgfanout.installation i)::text AS trimmed_before
