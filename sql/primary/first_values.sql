-- What columns hold in rows that were there before them and were not written since.
-- Parameters: $1 oid: the table; $2 text[]: columns. Returns for each, in their order, that value as text, or NULL.
-- Reads: catalogs only.
SELECT CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1] END AS value
FROM
    unnest($2::text[]) WITH ORDINALITY AS c (name, n)
    JOIN pg_attribute a ON a.attrelid = $1 AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.n
