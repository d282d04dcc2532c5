-- Purpose: the names that a table takes besides its own: those of its partitions, and of the indexes and sequences that
--   belong to them.
-- Parameters: $1 oid of the table.
-- Returns: one row per name: schema and name, unquoted.
-- Reads only the catalogs; locks the partitions in ACCESS SHARE mode as pg_partition_tree does.
WITH member (oid) AS (
    SELECT relid::oid FROM pg_partition_tree($1::oid::regclass)
    UNION
    SELECT $1::oid
)
SELECT n.nspname::text AS schema, c.relname::text AS name
FROM
    (
        SELECT m.oid FROM member AS m
        UNION
        SELECT i.indexrelid FROM pg_index AS i JOIN member AS m ON m.oid = i.indrelid
        UNION
        SELECT d.objid FROM pg_depend AS d JOIN member AS m ON m.oid = d.refobjid
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
    ) AS named
    JOIN pg_class AS c ON c.oid = named.oid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
-- Before PostgreSQL 15 a table with generated columns belongs to itself.
WHERE c.oid <> $1::oid AND c.relkind IN ('r', 'p', 'i', 'I', 'S')
