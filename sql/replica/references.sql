-- Whether foreign keys lead to some tables: TRUNCATE takes such a table only together with those that refer to it.
-- Parameters: $1 text[]: their names in SQL. Returns whether any comes from another one of them, and whether
-- any comes from a table that is not among them. Reads catalogs only.
WITH
    named AS (SELECT to_regclass(n.name) AS oid FROM unnest($1::text[]) AS n (name))
SELECT
    coalesce(bool_or(r.conrelid IN (SELECT n.oid FROM named n)), false) AS inside,
    coalesce(bool_or(r.conrelid NOT IN (SELECT n.oid FROM named n WHERE n.oid IS NOT NULL)), false) AS outside
FROM pg_constraint r
WHERE
    r.contype = 'f'
    AND r.conparentid = 0
    AND r.conrelid <> r.confrelid
    AND r.confrelid IN (SELECT n.oid FROM named n)
