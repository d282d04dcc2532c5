-- How long changes took to the replicas lately, for whoever looks only now.

-- No change of the batch was committed earlier, as far as is known.
ALTER TABLE pgfanout.batch ADD COLUMN changed_at pg_catalog.timestamptz;

-- What replicas applied in the last minutes, by half minutes. Written with a report that tells that the replica moved:
-- where nothing happens there are no rows.
CREATE TABLE pgfanout.recent (
    replica pg_catalog.text NOT NULL REFERENCES pgfanout.replica ON DELETE CASCADE,
    began_at pg_catalog.timestamptz NOT NULL,
    -- The longest that a change took from its commit here until it was committed there, by the clock here.
    delay_seconds pg_catalog.float8 NOT NULL,
    -- How many changes were applied.
    changes pg_catalog.int8 NOT NULL,
    -- How many changes were ever logged when that was noted last, by the server's statistics.
    logged pg_catalog.int8 NOT NULL,
    noted_at pg_catalog.timestamptz NOT NULL,
    PRIMARY KEY (replica, began_at)
);
REVOKE ALL ON pgfanout.recent FROM PUBLIC;
