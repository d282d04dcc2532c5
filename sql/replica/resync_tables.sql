-- Has some tables copied anew: their definition becomes one that no table has.
-- Parameters: $1 int4[]: their numbers. Writes pgfanout.replicated_table.
UPDATE pgfanout.replicated_table SET definition = 0 WHERE id = ANY ($1)
