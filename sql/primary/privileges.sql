-- Functions are executable by everybody when they are created. Nobody but us shall call these; the row
-- triggers of partition roots are the exception that pgfanout.create_trigger_function explains, and are
-- made after this.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA pgfanout FROM PUBLIC;
