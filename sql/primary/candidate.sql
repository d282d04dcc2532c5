-- Every relation that somebody might want replicated, with its key, and the reason if it can't be.
--
-- Returns: relation, schema_name, table_name, relkind, is_leaf (a partition of another table, which
--   is replicated through its root), is_temporary, columns, key_columns and key_types (empty: nothing names its
--   rows but all they hold), keys (all that would do, the best first, with columns and types), shape (what
--   capture depends on), leaves (of a partition root), refusal (null: it can be captured; else table, reason and remedy).
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
    ARRAY(SELECT jsonb_array_elements_text(key.fit -> 0 -> 'columns')) AS key_columns,
    ARRAY(SELECT jsonb_array_elements_text(key.fit -> 0 -> 'types')) AS key_types,
    coalesce(key.fit, '[]') AS keys,
    jsonb_build_object(
        'columns', live.described,
        'key', key.fit -> 0 -> 'columns',
        'parts', coalesce(parts.described, '{}'::jsonb)
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
        WHEN parts.holds_chars AND current_setting('server_version_num')::int4 < 150000
            THEN 'has a column of arrays or other types of "char", of which this PostgreSQL prints a value'
                ' beyond ASCII as no text: exclude it, give it another type, or use PostgreSQL 15 or newer'
        WHEN live.columns IS NULL THEN 'has no columns that could be replicated: add one, or exclude it'
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
-- The key: the primary key, the replica identity, or the narrowest, of those whose text is cheap and always the
-- same. Arrays and composites are out: unnest takes none of them for one value. A deferrable primary key will do:
-- changes are counted per key, in any order. Another deferrable constraint won't, since nothing says that its index is
-- meant to name the rows.
LEFT JOIN LATERAL (
    SELECT jsonb_agg(
        jsonb_build_object('columns', parts.columns, 'types', parts.types)
        ORDER BY i.indisprimary DESC, i.indisreplident DESC, i.indnkeyatts, i.indexrelid
    ) AS fit
    FROM pg_index i
    CROSS JOIN LATERAL (
        SELECT
            array_agg(a.attname::text ORDER BY k.place) AS columns,
            array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY k.place) AS types,
            coalesce(bool_and(
                a.attnotnull AND a.attgenerated = '' AND t.typcategory NOT IN ('A', 'C', 'P') AND t.typtype <> 'p'
                -- Until a NOT NULL is validated (PostgreSQL 18), rows that violate it may exist.
                AND NOT EXISTS (
                    SELECT FROM pg_constraint u
                    WHERE u.conrelid = a.attrelid AND u.contype = 'n' AND NOT u.convalidated
                        AND u.conkey = ARRAY[a.attnum]
                )
            ), false) AS fit
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
        LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND a.attnum > 0
        LEFT JOIN pg_type t ON t.oid = a.atttypid
        WHERE k.place <= i.indnkeyatts
    ) parts
    -- Of a key WITHOUT OVERLAPS (PostgreSQL 18) the index knows no order, and tells what overlaps, not what is equal.
    WHERE i.indrelid = c.oid AND i.indisunique AND NOT i.indisexclusion AND i.indisvalid AND i.indisready
        AND i.indpred IS NULL AND i.indexprs IS NULL
        AND (i.indimmediate OR i.indisprimary) AND parts.fit
) key ON true
-- What the types of its columns are made of: ALTER TYPE changes the text of rows without touching them.
LEFT JOIN LATERAL (
    WITH RECURSIVE part (oid, is_inner) AS (
        SELECT a.atttypid, false FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        UNION
        SELECT inner_part.oid, inner_part.is_inner
        FROM part
        JOIN pg_type t ON t.oid = part.oid AND t.oid >= 16384
        CROSS JOIN LATERAL (
            SELECT t.typbasetype, part.is_inner
            UNION ALL SELECT t.typelem, true
            -- Multiranges came with PostgreSQL 14: the column is not there before.
            UNION ALL SELECT r.rngsubtype, true FROM pg_range r
                WHERE t.oid IN (r.rngtypid, (to_jsonb(r) ->> 'rngmultitypid')::oid)
            UNION ALL SELECT a.atttypid, true FROM pg_attribute a
                WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        ) inner_part (oid, is_inner)
    )
    SELECT
        jsonb_object_agg(piece.place, piece.text) FILTER (WHERE piece.place IS NOT NULL) AS described,
        coalesce(bool_or(part.oid = '"char"[]'::regtype OR part.oid = '"char"'::regtype AND part.is_inner), false)
            AS holds_chars
    FROM part
    LEFT JOIN pg_type t ON t.oid = part.oid AND t.oid >= 16384
    LEFT JOIN LATERAL (
        SELECT e.oid::text, e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid
        UNION ALL
        SELECT 'attributes of ' || t.oid, string_agg(a.attnum || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
        FROM pg_attribute a
        WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        HAVING t.typrelid <> 0
    ) piece (place, text) ON true
) parts ON true
-- Not by pg_partition_tree, which waits for whoever has locked a partition.
LEFT JOIN LATERAL (
    WITH RECURSIVE member (oid) AS (
        SELECT c.oid WHERE c.relkind = 'p'
        UNION ALL
        SELECT i.inhrelid
        FROM member m
        JOIN pg_inherits i ON i.inhparent = m.oid
        -- DETACH ... CONCURRENTLY came with PostgreSQL 14: the column is not there before.
        WHERE (to_jsonb(i) ->> 'inhdetachpending')::bool IS NOT TRUE
    )
    SELECT
        array_agg(l.oid ORDER BY l.oid) AS leaves,
        min(l.oid::regclass::text) FILTER (WHERE l.relkind = 'f') AS foreign_leaf,
        min(l.oid::regclass::text) FILTER (WHERE l.relpersistence = 'u') AS unlogged_leaf
    FROM member
    JOIN pg_class l ON l.oid = member.oid
    WHERE l.relkind <> 'p'
) tree ON c.relkind = 'p'
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgfanout', 'pgfanout_status')
