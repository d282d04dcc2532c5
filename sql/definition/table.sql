-- Purpose: the head of a table's definition.
-- Parameters: $1 oid of the relation.
-- Returns: one row, or none if the relation is gone: schema, name, both quoted and joined, what kind of
--   relation it is (in the words of pg_identify_object), its partition key or null.
-- Reads only the catalogs; takes no lock. Expects search_path = pg_catalog, pg_temp, so that every name of
--   another schema comes out with its schema.
SELECT
    n.nspname::text AS schema,
    c.relname::text AS name,
    format('%I.%I', n.nspname, c.relname) AS "table",
    CASE c.relkind
        WHEN 'r' THEN 'table'
        WHEN 'p' THEN 'table'
        ELSE (pg_identify_object('pg_class'::regclass, c.oid, 0)).type
    END AS kind,
    pg_get_partkeydef(c.oid) AS partition_key
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = $1
