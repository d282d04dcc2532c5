-- Functions are executable by everybody when they are created. Nobody but us shall call these; the row
-- triggers of partition roots are the exception that pgfanout.create_trigger_function explains, and are
-- made after this.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pgfanout FROM PUBLIC;
-- Who watches may see what `status` tells; in a schema of its own, since a right on ours would let others attach
-- those row triggers.
GRANT USAGE ON SCHEMA pgfanout_status TO pg_monitor;
GRANT SELECT ON pgfanout_status.primary, pgfanout_status.captured_tables, pgfanout_status.replicas, pgfanout_status.recent
TO pg_monitor;
GRANT EXECUTE ON FUNCTION pgfanout.behind, pgfanout.gaps TO pg_monitor;
