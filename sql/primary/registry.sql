-- A text that changes whenever a captured table comes, goes or is altered.
-- Reads pgfanout.captured_table.
SELECT
    coalesce(
        string_agg(concat_ws(':', t.id, t.definition, t.rewritten, t.broken), ' ' ORDER BY t.id),
        ''
    ) AS registry
FROM pgfanout.captured_table t
