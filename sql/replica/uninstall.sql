-- Removes what pgfanout keeps on a replica; the replicated tables stay. Twice does no harm.
DROP SCHEMA IF EXISTS pgfanout CASCADE;
