-- Purpose: the relation that has this name, whatever kind it is.
-- Parameters: $1 schema, $2 name, both unquoted.
-- Returns: one row with its oid, or none.
-- Reads only the catalogs; takes no lock.
SELECT c.oid
FROM pg_class AS c
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1::text AND c.relname = $2::text
