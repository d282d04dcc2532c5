-- Has all tables copied anew, whatever primary and history they come from: none stands anywhere any more.
-- A position that is gone makes fail whatever a running process is about to commit. Numbers below zero are
-- no table's on any primary: they are found again by name.
-- What oids tell of the old primary's tables means nothing for a new one.
-- Writes pgfanout.position, pgfanout.replicated_table, pgfanout.copy_chunk, pgfanout.isolated_table,
-- pgfanout.filled_table.
DELETE FROM pgfanout.position;
DELETE FROM pgfanout.copy_chunk;
DELETE FROM pgfanout.isolated_table;
DELETE FROM pgfanout.filled_table;
UPDATE pgfanout.replicated_table SET id = -abs(id), definition = 0;
