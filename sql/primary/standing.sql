-- How the primary's history goes together with a replica that last applied a batch of this name.
-- Parameters: $1 int8, $2 text: the batch's number and token, NULL if there was none.
-- Returns the present; from which transaction on the changelog is whole; and whether the batch was cut
-- here (batches older than the oldest on record are taken to be).
-- Reads pgfanout.installation, pgfanout.batch.
SELECT
    pg_current_snapshot()::text AS now,
    i.trimmed_before::text AS trimmed_before,
    (
        $1::int8 IS NULL
        OR EXISTS (SELECT FROM pgfanout.batch b WHERE b.number = $1 AND b.token::text = $2)
        OR $1 < (SELECT min(b.number) FROM pgfanout.batch b)
    ) AS batch_is_known
FROM pgfanout.installation i
