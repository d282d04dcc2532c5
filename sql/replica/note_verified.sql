-- Notes what came of comparing a table with the primary's; nothing for one that is not replicated here.
-- Parameters: $1 int4: its number; $2 int8: the primary's rows; $3 int8: how many rows differ; $4 text: why rows
-- were not proved to be right or wrong, NULL if all were. Writes pgfanout.verified_table.
INSERT INTO pgfanout.verified_table (id, rows, differences, unproved, verified_at)
SELECT t.id, $2, $3, $4, clock_timestamp()
FROM pgfanout.replicated_table t
WHERE t.id = $1
ON CONFLICT (id) DO UPDATE
SET
    rows = excluded.rows,
    differences = excluded.differences,
    unproved = excluded.unproved,
    verified_at = excluded.verified_at
