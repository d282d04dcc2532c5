-- Where a table stands on the replica. Parameter: $1 int4: its number.
-- Returns no row for a table that is not replicated here; else the replica's position (NULL before the first
-- table joined), the definition that the table was checked against, and whether it stands at the position.
-- Reads pgfanout.replicated_table, pgfanout.position.
SELECT
    p.epoch::text AS epoch,
    p.snapshot::text AS snapshot,
    p.number,
    p.token::text AS token,
    t.definition,
    t.snapshot IS NULL AND NOT t.copying AS joined
FROM pgfanout.replicated_table t LEFT JOIN pgfanout.position p ON true
WHERE t.id = $1
ORDER BY p.number DESC
LIMIT 1
