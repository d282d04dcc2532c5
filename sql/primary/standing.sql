-- How the primary's history goes together with that of a replica, which noted names of batches.
-- Parameters: $1 int8[], $2 text[]: their numbers and tokens.
-- Returns the present; from which transaction on the changelog is whole; the first number under which
-- another batch is on record, or none though later than the oldest on record: this history does not hold
-- it; and whether some are older than all on record.
-- Reads pgfanout.installation, pgfanout.batch.
SELECT
    pg_current_snapshot()::text AS now,
    i.trimmed_before::text AS trimmed_before,
    n.unknown,
    n.forgotten
FROM
    pgfanout.installation i
    CROSS JOIN (
        SELECT
            min(n.number) FILTER (WHERE NOT n.known AND NOT n.early) AS unknown,
            coalesce(bool_or(NOT n.known AND n.early), false) AS forgotten
        FROM
            (
                SELECT
                    p.number,
                    EXISTS (
                        SELECT FROM pgfanout.batch b WHERE b.number = p.number AND b.token::text = p.token
                    ) AS known,
                    coalesce(p.number < (SELECT min(b.number) FROM pgfanout.batch b), false) AS early
                FROM unnest($1::int8[], $2::text[]) AS p (number, token)
            ) n
    ) n
