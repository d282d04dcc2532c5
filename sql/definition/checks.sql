-- Purpose: the check constraints of a table and of its partitions, which hold for every row of the primary.
--   One that is NOT VALID there may be violated by a row that must be copied, and is left out.
-- Parameters: $1 oid of the table.
-- Returns: one row per constraint that is not inherited from a parent in the same tree: the quoted name of
--   the table that has it, its name, the statement that adds it.
-- Reads only the catalogs; locks the partitions in ACCESS SHARE mode as pg_partition_tree does.
--   Expects search_path = pg_catalog, pg_temp.
SELECT
    format('%I.%I', n.nspname, c.relname) AS "table",
    k.conname::text AS name,
    format('ALTER TABLE %I.%I ADD CONSTRAINT %I %s', n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid))
        AS statement
FROM pg_constraint AS k
JOIN pg_class AS c ON c.oid = k.conrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE k.contype = 'c' AND k.convalidated
    AND (
        k.conrelid = $1::oid
        OR k.coninhcount = 0 AND k.conrelid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass))
    )
ORDER BY 1, 2
