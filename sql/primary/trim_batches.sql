-- Deletes records of batches that nobody stands at any more: all but the last hundred thousand, and never
-- one that a replica applied last. Writes pgfanout.batch.
DELETE FROM pgfanout.batch b
WHERE
    b.number < (SELECT max(l.number) - 100000 FROM pgfanout.batch l)
    AND b.number < ALL (SELECT r.number FROM pgfanout.replica r WHERE r.number IS NOT NULL)
