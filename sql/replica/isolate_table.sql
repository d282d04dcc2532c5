-- Sets a table aside, where it stands, or notes another cause.
-- Parameters: $1 int4: its number; $2, $3 text: its schema and name; $4 text: the cause; $5 text: the token of
-- the position that we know, NULL if there is none.
-- Affects one row, or none if the position is another. Writes pgfanout.isolated_table,
-- pgfanout.replicated_table.
WITH
    here AS (SELECT p.snapshot, p.number, p.token FROM pgfanout.position p ORDER BY p.number DESC LIMIT 1),
    apart AS (
        UPDATE pgfanout.replicated_table t
        SET snapshot = h.snapshot, number = h.number, token = h.token
        FROM here h
        WHERE t.id = $1 AND t.snapshot IS NULL AND h.token = $5::text::uuid
    )
INSERT INTO pgfanout.isolated_table (id, schema_name, table_name, cause)
SELECT $1, $2, $3, $4
WHERE (SELECT h.token FROM here h) IS NOT DISTINCT FROM $5::text::uuid
ON CONFLICT (id) DO UPDATE SET schema_name = $2, table_name = $3, cause = $4
