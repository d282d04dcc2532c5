-- What the replicas' appliers last reported of themselves. What `status` asks, and in the view
-- pgfanout_status.replicas. Reads pgfanout.replica.
SELECT
    r.name,
    coalesce(r.state, '') AS state,
    r.detail ->> 'error' AS error,
    r.reported_at,
    greatest(extract(epoch FROM clock_timestamp() - r.reported_at), 0)::float8 AS seconds_ago,
    r."position",
    r.number,
    r.token::text AS token
FROM pgfanout.replica r
