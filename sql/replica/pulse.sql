-- What somebody else may have changed while a process goes on.
-- Returns the token of the position, NULL if there is none, the tables that are to be copied anew, and whether the
-- replica is paused.
-- Reads pgfanout.position, pgfanout.replicated_table.
SELECT
    (SELECT p.token FROM pgfanout.position p ORDER BY p.number DESC LIMIT 1)::text AS token,
    ARRAY(SELECT t.id FROM pgfanout.replicated_table t WHERE t.definition = 0) AS resync,
    to_regclass('pgfanout.paused') IS NOT NULL AS paused
