-- Every relation that somebody might want replicated, with its key, and the reason if it can't be.
--
-- Returns: relation, schema_name, table_name, relkind, is_leaf (a partition of another table, which
--   is replicated through its root), is_temporary, columns, key_columns, key_types, shape (what capture depends on),
--   leaves (of a partition root), refusal (null: it can be captured; else table, reason and remedy).
-- Reads only catalogs, needs no installation, takes no locks. Also the body of the view
--   pgfanout.candidate. Expects search_path = pg_catalog, pg_temp.
SELECT
    c.oid AS relation,
    n.nspname::text AS schema_name,
    c.relname::text AS table_name,
    c.relkind,
    c.relkind::text AS kind,
    c.relispartition AS is_leaf,
    c.relpersistence = 't' AS is_temporary,
    coalesce(live.columns, '{}') AS columns,
    coalesce(key.columns, '{}') AS key_columns,
    coalesce(key.types, '{}') AS key_types,
    jsonb_build_object(
        'columns', live.described,
        'key', key.columns,
        'labels', coalesce(labels.described, '{}'::jsonb)
    ) AS shape,
    coalesce(tree.leaves, '{}') AS leaves,
    format('%I.%I ', n.nspname, c.relname) || CASE
        WHEN c.relkind = 'v' THEN 'is a view: exclude it, and name the tables it shows'
        WHEN c.relkind = 'm' THEN 'is a materialized view: exclude it, and name the tables it shows'
        WHEN c.relkind = 'f' THEN 'is a foreign table, which has no triggers for what others change: exclude it'
        WHEN c.relpersistence = 't' THEN 'is a temporary table: exclude it'
        WHEN c.relpersistence = 'u'
            THEN 'is unlogged, so a crash empties it unseen: exclude it, or ALTER TABLE ... SET LOGGED'
        WHEN c.relispartition THEN format(
            'is a partition: name its root %s instead', pg_partition_root(c.oid::regclass))
        WHEN EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
            THEN 'inherits from another table: exclude it, or make it a partition or a table of its own'
        WHEN c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)
            THEN 'has tables that inherit from it: exclude it, or use partitions'
        WHEN tree.foreign_leaf IS NOT NULL THEN format(
            'has the foreign table %s as a partition: exclude it, or detach that partition', tree.foreign_leaf)
        WHEN tree.unlogged_leaf IS NOT NULL THEN format(
            'has the unlogged partition %s: exclude it, or ALTER TABLE ... SET LOGGED', tree.unlogged_leaf)
        WHEN key.columns IS NULL
            THEN 'has no primary key and no unique index over NOT NULL columns: add one, or exclude it'
        WHEN key.problem IS NOT NULL
            THEN key.problem || ': add another unique index over NOT NULL columns, or exclude it'
    END AS refusal
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
-- The columns that are replicated, and what a change of the table would show.
LEFT JOIN LATERAL (
    SELECT
        array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attgenerated = '') AS columns,
        jsonb_agg(
            jsonb_build_array(a.attnum, a.attname, a.atttypid::int8, a.atttypmod, a.attgenerated, a.attnotnull)
            ORDER BY a.attnum
        ) AS described
    FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
) live ON true
-- The key: without a problem first, then the primary key, the replica identity, the narrowest. A
-- deferrable primary key will do: changes are counted per key, in any order. Another deferrable
-- constraint won't, since nothing says that its index is meant to name the rows.
LEFT JOIN LATERAL (
    SELECT parts.columns, parts.types, parts.problem
    FROM pg_index i
    CROSS JOIN LATERAL (
        SELECT
            array_agg(a.attname::text ORDER BY k.place) AS columns,
            array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY k.place) AS types,
            coalesce(bool_and(a.attnotnull), false) AS not_null,
            min(CASE
                WHEN a.attgenerated <> '' THEN format('has the generated column %I in its key', a.attname)
                WHEN t.typcategory IN ('A', 'P') OR t.typtype = 'p' THEN format(
                    'has the key column %I of type %s, which is not supported in a key yet',
                    a.attname, format_type(a.atttypid, a.atttypmod))
            END) AS problem
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
        LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND a.attnum > 0
        LEFT JOIN pg_type t ON t.oid = a.atttypid
        WHERE k.place <= i.indnkeyatts
    ) parts
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indisready
        AND i.indpred IS NULL AND i.indexprs IS NULL
        AND (i.indimmediate OR i.indisprimary) AND parts.not_null
    ORDER BY parts.problem IS NULL DESC, i.indisprimary DESC, i.indisreplident DESC, i.indnkeyatts, i.indexrelid
    LIMIT 1
) key ON true
-- Enum labels in the key: they are part of its text, and can be renamed.
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(e.oid::text, e.enumlabel) AS described
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    JOIN pg_enum e ON e.enumtypid IN (t.oid, t.typbasetype)
    WHERE a.attrelid = c.oid AND a.attname = ANY (key.columns) AND NOT a.attisdropped
) labels ON true
LEFT JOIN LATERAL (
    SELECT
        array_agg(l.oid ORDER BY l.oid) AS leaves,
        min(p.relid::regclass::text) FILTER (WHERE l.relkind = 'f') AS foreign_leaf,
        min(p.relid::regclass::text) FILTER (WHERE l.relpersistence = 'u') AS unlogged_leaf
    FROM pg_partition_tree(c.oid::regclass) p
    JOIN pg_class l ON l.oid = p.relid
    WHERE p.isleaf AND c.relkind = 'p'
) tree ON c.relkind = 'p'
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgfanout')
