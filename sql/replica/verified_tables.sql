-- What came of comparing the replicated tables with the primary's, when that was last done. What `status` asks, and
-- the body of the view pgfanout_status.verified_tables.
-- Returns for each its number and name and, unless it was not verified since it was copied, when that was, the rows
-- that the primary had, how many differed, and why rows were not proved.
-- Reads pgfanout.replicated_table, pgfanout.verified_table.
SELECT
    t.id,
    format('%I.%I', t.schema_name, t.table_name) AS name,
    v.verified_at,
    greatest(extract(epoch FROM clock_timestamp() - v.verified_at), 0)::float8 AS seconds_ago,
    v.rows,
    v.differences,
    v.unproved
FROM
    pgfanout.replicated_table t
    LEFT JOIN pgfanout.verified_table v ON v.id = t.id AND v.verified_at > t.copy_started_at
ORDER BY t.id
