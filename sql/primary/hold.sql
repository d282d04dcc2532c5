-- Registers a replica, so that no change from now on is trimmed before it has it, and names this moment: who
-- notes the name can tell later whether this primary still remembers it.
-- Parameters: $1 text: the replica's name.
-- Returns the name, the present, and the publisher's term as record_batch.sql does. A replica that is
-- registered already holds what it held, which is older.
-- Reads pgfanout.installation, writes pgfanout.replica, pgfanout.batch; its commit must be synchronous.
WITH
    registered AS (
        INSERT INTO pgfanout.replica (name, "position", state, reported_at)
        VALUES ($1, pg_current_snapshot(), 'copying', clock_timestamp())
        ON CONFLICT (name) DO UPDATE SET reported_at = clock_timestamp()
    )
INSERT INTO pgfanout.batch (replica, to_snapshot)
VALUES ($1, pg_current_snapshot())
RETURNING
    number,
    token::text,
    to_snapshot::text AS now,
    coalesce(
        (SELECT i.term FROM pgfanout.installation i WHERE i.term_server = pg_postmaster_start_time())::text, ''
    ) AS term
