-- The tables that were chosen: their numbers and names, and why not all changes of a table are captured any more. What
-- `status` asks, and the body of the view pgfanout_status.captured_tables.
-- Reads pgfanout.captured_table, and triggers by pgfanout.gaps.
SELECT
    t.id,
    format('%I.%I', t.schema_name, t.table_name) AS name,
    CASE
        WHEN g.id IS NULL THEN t.broken
        ELSE 'a trigger of pgfanout is disabled or gone, and changes are not logged; the process that runs captures and '
            'copies the table anew within a minute, and so does pgfanout install'
    END AS broken
FROM pgfanout.captured_table t LEFT JOIN pgfanout.gaps() g ON g.id = t.id
ORDER BY t.schema_name, t.table_name
