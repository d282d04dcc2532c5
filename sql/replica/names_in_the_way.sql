-- What has the names that a table takes.
-- Parameters: $1, $2 text: the table's schema and name; $3, $4 text[]: schemas and names that it takes, arrays of one
-- length.
-- Returns a row for each index, sequence and partition of another table that has one: the words for it and for that
-- table, whether pgfanout filled that table, whether it may stay as it is, and a statement that frees the name. Where the
-- table is there, what is somebody's may stay: it matters only if an index turns out to be missing.
-- Reads pgfanout.filled_table, catalogs.
SELECT
    format('%s %I.%I', lower(k.word), n.nspname, c.relname) AS name,
    format('%I.%I', rn.nspname, r.relname) AS owner,
    EXISTS (
        SELECT FROM pgfanout.filled_table f
        WHERE f.here = r.oid AND (f.schema_name, f.table_name) = (rn.nspname, r.relname)
    ) AS ours,
    c.relkind = 'S' OR t.oid IS NOT NULL AS may_stay,
    format('ALTER %s %I.%I RENAME TO %I', k.word, n.nspname, c.relname, 'renamed_' || c.oid) AS statement
FROM
    unnest($3::text[], $4::text[]) w (schema_name, name)
    JOIN pg_namespace n ON n.nspname = w.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
    CROSS JOIN LATERAL (
        SELECT i.indrelid, 'INDEX' FROM pg_index i WHERE i.indexrelid = c.oid
        UNION ALL
        SELECT d.refobjid, 'SEQUENCE' FROM pg_depend d
        WHERE
            c.relkind = 'S'
            AND d.classid = 'pg_class'::regclass
            AND d.objid = c.oid
            AND d.refclassid = 'pg_class'::regclass
            AND d.deptype IN ('a', 'i')
        UNION ALL
        SELECT c.oid, 'TABLE' WHERE c.relispartition AND c.relkind IN ('r', 'p')
    ) k (table_oid, word)
    JOIN pg_class r ON r.oid = coalesce(pg_partition_root(k.table_oid), k.table_oid)
    JOIN pg_namespace rn ON rn.oid = r.relnamespace
    LEFT JOIN (pg_class t JOIN pg_namespace tn ON tn.oid = t.relnamespace)
        ON tn.nspname = $1::text AND t.relname = $2::text
WHERE t.oid IS DISTINCT FROM r.oid
