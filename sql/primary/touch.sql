-- Has rows written to the replicas anew: logs their keys as if the rows had changed, so that the next batch
-- brings them as they are by then.
-- Parameters: $1 int4: the table; $2 text[]: keys as the changelog has them; $3 bool[]: whether the row is
-- there. For one that is not, a replica's row goes. Without a key all of the table is written anew. What a writer logs
-- at the same time stands beside it.
-- Returns nothing. Writes pgfanout.changelog; wakes the publisher as the triggers do.
WITH
    touched AS (
        INSERT INTO pgfanout.changelog (table_id, operation, key)
        SELECT $1, CASE WHEN k.present THEN 'U' ELSE 'D' END, k.key
        FROM
            unnest($2::text[], $3::bool[]) AS k (key, present)
            JOIN pgfanout.captured_table t ON t.id = $1 AND cardinality(t.key_columns) > 0
        UNION ALL
        SELECT $1, 'T', NULL
        FROM pgfanout.captured_table t
        WHERE t.id = $1 AND cardinality(t.key_columns) = 0
        RETURNING key
    )
SELECT CASE WHEN count(*) > 0 THEN pgfanout.wake() END FROM touched
