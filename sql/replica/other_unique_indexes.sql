-- Whether a table has unique or exclusion constraints besides the key's, which rows of different moments
-- might violate and that can be skipped on conflict: deferrable ones can't, they are checked at the end. Parameters: $1, $2 text: schema and name. Reads catalogs only.
SELECT count(*) > 1 AND bool_and(i.indimmediate)
FROM
    pg_index i
    JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND (i.indisunique OR i.indisexclusion)
