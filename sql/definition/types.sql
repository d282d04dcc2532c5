-- Purpose: how to make the types a table needs.
-- Parameters: $1 oids of types.
-- Returns: one row per enum, composite type, domain and range: the catalog (pg_type); its oid; the statement
--   that creates it, or null if it must be made by hand; null; its parts as they can be compared (labels, attributes, what it is
--   based on); for each part the statement that adds it, or null.
-- Reads only the catalogs; takes no lock. Expects search_path = pg_catalog, pg_temp.
WITH wanted AS (
    SELECT t.*, format('%I.%I', n.nspname, t.typname) AS name
    FROM pg_type AS t
    JOIN pg_namespace AS n ON n.oid = t.typnamespace
    WHERE t.oid = ANY ($1::oid[])
)
SELECT
    'pg_type' AS catalog,
    t.oid,
    format('CREATE TYPE %s AS ENUM (%s)', t.name, coalesce(l.list, '')) AS statement,
    NULL AS afterwards,
    coalesce(l.labels, '{}') AS parts,
    coalesce(l.additions, '{}') AS additions
FROM wanted AS t
CROSS JOIN LATERAL (
    SELECT
        string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) AS list,
        array_agg(e.enumlabel::text ORDER BY e.enumsortorder) AS labels,
        array_agg(
            concat(format('ALTER TYPE %s ADD VALUE %L', t.name, e.enumlabel), coalesce(' AFTER ' || e.before, ' BEFORE ' || e.after))
            ORDER BY e.enumsortorder
        ) AS additions
    FROM (
        SELECT
            enumlabel, enumsortorder,
            quote_literal(lag(enumlabel) OVER neighbours) AS before,
            quote_literal(lead(enumlabel) OVER neighbours) AS after
        FROM pg_enum
        WHERE enumtypid = t.oid
        WINDOW neighbours AS (ORDER BY enumsortorder)
    ) AS e
) AS l
WHERE t.typtype = 'e'
UNION ALL
SELECT
    'pg_type',
    t.oid,
    format('CREATE TYPE %s AS (%s)', t.name, array_to_string(l.attributes, ', ')),
    NULL,
    coalesce(l.attributes, '{}'),
    coalesce(l.additions, '{}')
FROM wanted AS t
CROSS JOIN LATERAL (
    SELECT
        array_agg(a.declaration ORDER BY a.attnum) AS attributes,
        array_agg(format('ALTER TYPE %s ADD ATTRIBUTE %s', t.name, a.declaration) ORDER BY a.attnum) AS additions
    FROM (
        SELECT
            a.attnum,
            format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
            || coalesce(' COLLATE ' || quote_ident(n.nspname) || '.' || quote_ident(co.collname), '') AS declaration
        FROM pg_attribute AS a
        JOIN pg_type AS y ON y.oid = a.atttypid
        LEFT JOIN pg_collation AS co ON co.oid = a.attcollation AND a.attcollation <> y.typcollation
        LEFT JOIN pg_namespace AS n ON n.oid = co.collnamespace
        WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) AS a
) AS l
WHERE t.typtype = 'c'
UNION ALL
SELECT
    'pg_type',
    t.oid,
    concat(
        format('CREATE DOMAIN %s AS %s', t.name, base.name),
        ' COLLATE ' || quote_ident(n.nspname) || '.' || quote_ident(co.collname),
        ' DEFAULT ' || pg_get_expr(t.typdefaultbin, 0),
        CASE WHEN t.typnotnull THEN ' NOT NULL' END,
        (
            SELECT string_agg(format(' CONSTRAINT %I %s', k.conname, pg_get_constraintdef(k.oid)), '' ORDER BY k.conname)
            FROM pg_constraint AS k
            WHERE k.contypid = t.oid AND k.contype = 'c' AND k.convalidated
        )
    ),
    NULL,
    ARRAY[base.name],
    ARRAY[NULL::text]
FROM wanted AS t
JOIN pg_type AS y ON y.oid = t.typbasetype
LEFT JOIN pg_collation AS co ON co.oid = t.typcollation AND t.typcollation <> y.typcollation
LEFT JOIN pg_namespace AS n ON n.oid = co.collnamespace
CROSS JOIN LATERAL (SELECT format_type(t.typbasetype, t.typtypmod) AS name) AS base
WHERE t.typtype = 'd'
UNION ALL
SELECT
    'pg_type',
    t.oid,
    -- A canonical function takes the type itself: neither can be made without the other.
    CASE WHEN r.rngcanonical = 0 THEN
        format('CREATE TYPE %s AS RANGE (%s)', t.name, concat_ws(', ', VARIADIC l.options || named.multirange))
    END,
    NULL,
    l.options,
    array_fill(NULL::text, ARRAY[cardinality(l.options)])
FROM wanted AS t
JOIN pg_range AS r ON r.rngtypid = t.oid
JOIN pg_opclass AS o ON o.oid = r.rngsubopc
JOIN pg_namespace AS opclass_schema ON opclass_schema.oid = o.opcnamespace
JOIN pg_type AS y ON y.oid = r.rngsubtype
LEFT JOIN pg_collation AS co ON co.oid = r.rngcollation AND r.rngcollation <> y.typcollation
LEFT JOIN pg_namespace AS n ON n.oid = co.collnamespace
LEFT JOIN pg_proc AS f ON f.oid = r.rngsubdiff
LEFT JOIN pg_namespace AS function_schema ON function_schema.oid = f.pronamespace
-- Multiranges came with PostgreSQL 14: the column is not there before.
LEFT JOIN pg_type AS m ON m.oid = (to_jsonb(r) ->> 'rngmultitypid')::oid
LEFT JOIN pg_namespace AS multirange_schema ON multirange_schema.oid = m.typnamespace
CROSS JOIN LATERAL (
    SELECT array_remove(
        ARRAY[
            'SUBTYPE = ' || format_type(r.rngsubtype, NULL),
            format('SUBTYPE_OPCLASS = %I.%I', opclass_schema.nspname, o.opcname),
            CASE WHEN co.oid IS NOT NULL THEN format('COLLATION = %I.%I', n.nspname, co.collname) END,
            CASE WHEN f.oid IS NOT NULL THEN format('SUBTYPE_DIFF = %I.%I', function_schema.nspname, f.proname) END
        ],
        NULL
    ) AS options
) AS l
-- Only where it has another name than the server gives by itself: PostgreSQL 13 takes none. It is no part to be
-- compared: it matters to columns of that type, and those say so.
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN m.typnamespace <> t.typnamespace
            OR m.typname <> CASE
                WHEN strpos(t.typname, 'range') > 0 THEN regexp_replace(t.typname, 'range', 'multirange')
                ELSE t.typname || '_multirange'
            END::name
        THEN format('MULTIRANGE_TYPE_NAME = %I.%I', multirange_schema.nspname, m.typname)
    END AS multirange
) AS named
WHERE t.typtype = 'r'
