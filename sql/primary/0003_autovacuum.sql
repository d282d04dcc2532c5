-- Autovacuum would read and write again all that is logged, to find nothing: segments are filled and truncated, and no row
-- in them is ever deleted. Against wraparound it comes nevertheless.
ALTER TABLE pgfanout.changelog_0 SET (autovacuum_enabled = off, toast.autovacuum_enabled = off);
ALTER TABLE pgfanout.changelog_1 SET (autovacuum_enabled = off, toast.autovacuum_enabled = off);
ALTER TABLE pgfanout.changelog_2 SET (autovacuum_enabled = off, toast.autovacuum_enabled = off);
