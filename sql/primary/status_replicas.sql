-- What the replicas' appliers last reported of themselves. Reads pgfanout.replica.
SELECT
    r.name,
    coalesce(r.state, '') AS state,
    r.detail ->> 'error' AS error,
    greatest(extract(epoch FROM clock_timestamp() - r.reported_at), 0)::float8 AS seconds_ago
FROM pgfanout.replica r
