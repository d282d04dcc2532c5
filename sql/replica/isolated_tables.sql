-- The tables that are set aside. What `status` asks, and the body of the view pgfanout_status.isolated_tables.
-- Reads pgfanout.isolated_table.
SELECT
    i.id,
    format('%I.%I', i.schema_name, i.table_name) AS name,
    i.cause,
    i.since,
    greatest(extract(epoch FROM clock_timestamp() - i.since), 0)::float8 AS seconds_ago
FROM pgfanout.isolated_table i
ORDER BY i.id
