-- The statement that takes away what refused a row: a CHECK or a NOT NULL that the primary does not have. Of partitions
-- it is for the one above all others that has it.
-- Parameters: $1, $2 text: schema and name of the table; $3, $4 text: the constraint and the column, as the server told.
-- Returns no row where it is none of these. Reads catalogs.
WITH
    place AS (
        SELECT c.oid, 0::int8 AS height
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1::text AND c.relname = $2::text
    ),
    above AS (
        SELECT p.oid, p.height FROM place p
        UNION ALL
        SELECT a.relid, a.height FROM place p, pg_partition_ancestors(p.oid) WITH ORDINALITY a (relid, height)
    )
SELECT format('ALTER TABLE %I.%I %s', n.nspname, c.relname, o.obstacle) AS statement
FROM
    above a
    JOIN pg_class c ON c.oid = a.oid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (
        SELECT format('DROP CONSTRAINT %I', k.conname)
        FROM pg_constraint k
        WHERE k.conrelid = c.oid AND k.conname = $3::text AND k.contype = 'c'
        UNION ALL
        SELECT format('ALTER COLUMN %I DROP NOT NULL', t.attname)
        FROM pg_attribute t
        WHERE t.attrelid = c.oid AND t.attname = $4::text AND t.attnotnull AND $3::text IS NULL
    ) o (obstacle)
ORDER BY a.height DESC
LIMIT 1
