-- Notes where a replica stands, and answers with what it should know.
-- Parameters: $1 text: its name; $2 pg_snapshot as text: the oldest snapshot it needs; $3 int8, $4 text:
-- the oldest name of a batch that it noted; $5 text: its state.
-- Returns the end of the last batch for all that was published, as is noted, or as is likely, since another one was
-- cut after it (or the replica's own snapshot, if there was none): a replica that does not reach it while
-- nothing comes has missed something; and from which transaction on the changelog is whole.
-- Writes pgfanout.replica unless nothing changed within a minute: an idle system leaves the disk alone.
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
