-- The tables that are replicated here, and how far those came that are being copied. What `status` asks, and in the
-- view pgfanout_status.tables.
-- Returns for each its number, its name, whether it stands apart from the others (it is being copied, or
-- about to join; one that is set aside counts only while it is copied), what is being done for it in a word, as
-- status/replica.rs explains them, what its copy expected and what it has; and over the pieces copied within the
-- last minute, rows and bytes a second, NULL if there was none.
-- Reads pgfanout.replicated_table, pgfanout.isolated_table, pgfanout.copy_chunk (never the keys in it).
SELECT
    t.id,
    format('%I.%I', t.schema_name, t.table_name) AS name,
    t.snapshot IS NOT NULL AND (t.copying OR i.id IS NULL) AS apart,
    CASE
        WHEN NOT t.copying THEN 'joining'
        WHEN c.pieces = 0 THEN 'waiting'
        WHEN c.planned AND c.open = 0 THEN 'completing'
        ELSE 'rows'
    END AS phase,
    t.rows_expected,
    t.bytes_expected,
    c.rows,
    c.bytes,
    c.recent_rows / c.recent_seconds AS rows_per_second,
    c.recent_bytes / c.recent_seconds AS bytes_per_second
FROM
    pgfanout.replicated_table t
    LEFT JOIN pgfanout.isolated_table i ON i.id = t.id
    CROSS JOIN LATERAL (
        SELECT
            coalesce(sum(p.row_count), 0)::int8 AS rows,
            coalesce(sum(p.byte_count), 0)::int8 AS bytes,
            count(*) AS pieces,
            coalesce(bool_or(p."until" IS NULL), false) AS planned,
            count(*) FILTER (WHERE p.row_count IS NULL) AS open,
            sum(p.row_count) FILTER (WHERE recent)::float8 AS recent_rows,
            sum(p.byte_count) FILTER (WHERE recent)::float8 AS recent_bytes,
            -- A piece may have been planned long before a restart. The clock goes on while nothing is
            -- copied: the rate falls then, and ends after the minute.
            greatest(
                least(extract(epoch FROM clock_timestamp() - min(p.planned_at) FILTER (WHERE recent)), 60),
                0.001
            )::float8 AS recent_seconds
        FROM
            (
                SELECT c.*, c.copied_at > clock_timestamp() - interval '1 minute' AS recent
                FROM pgfanout.copy_chunk c
                WHERE c.table_id = t.id AND c.copy = t.copy
            ) p
    ) c
ORDER BY t.id
