-- Purpose: the columns of a table, in order.
-- Parameters: $1 oid of the table.
-- Returns: one row per live column: its name, the same quoted, its type with schema and modifier, its
--   declaration as CREATE TABLE takes it, the declaration that can be added to a table that has rows,
--   whether an INSERT must name it, how it is generated ('' not, 's' stored, 'v' virtual), whether a "char" within its
--   values may be read as another one.
-- Reads only the catalogs; takes no lock. Expects search_path = pg_catalog, pg_temp.
SELECT
    a.attname::text AS name,
    quote_ident(a.attname) AS quoted,
    format_type(a.atttypid, a.atttypmod) AS type,
    p.start || CASE WHEN p.not_null THEN ' NOT NULL' ELSE '' END AS declaration,
    -- Rows that are there already have no value for it: without a default it can't be NOT NULL at once.
    p.start || CASE WHEN p.not_null AND p.filled THEN ' NOT NULL' ELSE '' END AS addition,
    (p.not_null OR t.typnotnull) AND NOT p.filled AND t.typdefault IS NULL AS required,
    a.attgenerated::text AS generated,
    -- PostgreSQL 14 and older take a "char" beyond ASCII, as newer ones print it, for a backslash. Where it is all of a
    -- value, it is read by a function of ours.
    current_setting('server_version_num')::int4 < 150000 AND EXISTS (
        WITH RECURSIVE part (oid, is_inner) AS (
            SELECT a.atttypid, false
            UNION
            SELECT i.oid, i.is_inner
            FROM part
            JOIN pg_type AS w ON w.oid = part.oid AND w.oid >= 16384
            CROSS JOIN LATERAL (
                SELECT w.typbasetype, part.is_inner
                UNION ALL
                SELECT w.typelem, true
                UNION ALL
                -- Multiranges came with PostgreSQL 14: the column is not there before.
                SELECT r.rngsubtype, true FROM pg_range AS r
                WHERE w.oid IN (r.rngtypid, (to_jsonb(r) ->> 'rngmultitypid')::oid)
                UNION ALL
                SELECT c.atttypid, true FROM pg_attribute AS c
                WHERE c.attrelid = w.typrelid AND c.attnum > 0 AND NOT c.attisdropped
            ) AS i (oid, is_inner)
        )
        SELECT FROM part WHERE oid = '"char"[]'::regtype OR oid = '"char"'::regtype AND is_inner
    ) AS misreads_chars
FROM pg_attribute AS a
JOIN pg_type AS t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN LATERAL (
    SELECT format(' COLLATE %I.%I', n.nspname, co.collname) AS clause
    FROM pg_collation AS co
    JOIN pg_namespace AS n ON n.oid = co.collnamespace
    WHERE co.oid = a.attcollation AND a.attcollation <> t.typcollation
) AS collated ON true
LEFT JOIN LATERAL (
    SELECT format(
        ' GENERATED %s AS IDENTITY (SEQUENCE NAME %I.%I INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s%s)',
        CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END,
        n.nspname, c.relname, s.seqincrement, s.seqmin, s.seqmax, s.seqstart, s.seqcache,
        CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END
    ) AS clause
    FROM pg_depend AS o
    JOIN pg_class AS c ON c.oid = o.objid AND c.relkind = 'S'
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_sequence AS s ON s.seqrelid = c.oid
    WHERE a.attidentity <> '' AND o.deptype = 'i' AND o.classid = 'pg_class'::regclass
        AND o.refclassid = 'pg_class'::regclass AND o.refobjid = a.attrelid AND o.refobjsubid = a.attnum
) AS numbered ON true
CROSS JOIN LATERAL (
    SELECT
        concat(
            format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)),
            collated.clause,
            CASE a.attgenerated
                WHEN '' THEN ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid)
                WHEN 's' THEN format(' GENERATED ALWAYS AS (%s) STORED', pg_get_expr(d.adbin, d.adrelid))
                ELSE format(' GENERATED ALWAYS AS (%s) VIRTUAL', pg_get_expr(d.adbin, d.adrelid))
            END,
            numbered.clause
        ) AS start,
        -- Until a NOT NULL is validated (PostgreSQL 18), rows that violate it may exist.
        a.attnotnull AND NOT EXISTS (
            SELECT FROM pg_constraint AS u
            WHERE u.conrelid = a.attrelid AND u.contype = 'n' AND NOT u.convalidated
                AND u.conkey = ARRAY[a.attnum]
        ) AS not_null,
        d.adbin IS NOT NULL OR a.attidentity <> '' AS filled
) AS p
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
