-- Notes the present as the end of a published batch, so that the next one starts here: what it had to tell
-- is gone from the changelog.
-- Returns the present. Writes pgfanout.batch; only the holder of the publisher's lock may call it.
INSERT INTO pgfanout.batch (from_snapshot, to_snapshot, published)
SELECT pg_current_snapshot(), pg_current_snapshot(), true
RETURNING to_snapshot::text AS resume_from
