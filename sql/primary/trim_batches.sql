-- Deletes records of batches that nobody stands at any more: all but the last hundred thousand, and never
-- one that a replica noted, unless the changelog does not reach back to it: that replica is copied anew.
-- Parameters: $1 int8: those up to this number were deleted before: they are not to be passed again each time
-- as long as an old transaction keeps them there.
-- Returns up to which number they are deleted now. Writes pgfanout.batch.
WITH
    gone AS (
        DELETE FROM pgfanout.batch b
        WHERE
            b.number > $1
            AND b.number < (SELECT max(l.number) - 100000 FROM pgfanout.batch l)
            AND (
                b.number < ALL (SELECT r.number FROM pgfanout.replica r WHERE r.number IS NOT NULL)
                OR pg_snapshot_xmin(b.to_snapshot) < (SELECT i.trimmed_before FROM pgfanout.installation i)
            )
        RETURNING b.number
    )
SELECT greatest($1, max(g.number)) AS deleted FROM gone g
