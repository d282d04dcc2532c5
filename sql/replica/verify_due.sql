-- Which tables are to be verified: those that are with the others, and were not verified for so long, or not since
-- they were copied.
-- Parameters: $1 float8: for how many seconds. Returns number and name, those that waited longest first.
-- Reads pgfanout.replicated_table, pgfanout.verified_table, pgfanout.isolated_table.
SELECT t.id, format('%I.%I', t.schema_name, t.table_name) AS name
FROM
    pgfanout.replicated_table t
    LEFT JOIN pgfanout.verified_table v ON v.id = t.id AND v.verified_at > t.copy_started_at
WHERE
    t.snapshot IS NULL
    AND NOT t.copying
    AND t.definition > 0
    AND NOT EXISTS (SELECT FROM pgfanout.isolated_table i WHERE i.id = t.id)
    AND coalesce(v.verified_at <= clock_timestamp() - make_interval(secs => $1::float8), true)
ORDER BY v.verified_at NULLS FIRST, t.id
