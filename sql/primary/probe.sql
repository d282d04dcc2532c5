-- A sign of life for everybody: commits a transaction that writes nothing, and has the publisher pass it on.
-- Returns the transaction, for pgfanout.wait_for on the replicas.
SELECT pg_current_xact_id()::text AS transaction, pg_notify('pgfanout_wake', 'probe')::text
