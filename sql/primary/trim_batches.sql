-- Deletes records of batches that nobody stands at any more: all but the last hundred thousand, and never
-- one that a replica noted, unless the changelog does not reach back to it: that replica is copied anew.
-- Writes pgfanout.batch.
DELETE FROM pgfanout.batch b
WHERE
    b.number < (SELECT max(l.number) - 100000 FROM pgfanout.batch l)
    AND (
        b.number < ALL (SELECT r.number FROM pgfanout.replica r WHERE r.number IS NOT NULL)
        OR pg_snapshot_xmin(b.to_snapshot) < (SELECT i.trimmed_before FROM pgfanout.installation i)
    )
