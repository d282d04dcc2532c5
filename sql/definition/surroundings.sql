-- Purpose: how to make the schemas, extensions, collations and sequences a table needs.
-- Parameters: $1 oids of such objects, $2 oid of the table.
-- Returns: one row per object: the catalog it is in; its oid; the statement that creates it; the statement
--   to run once the table is there, or null; its parts as they can be compared (the extension's schema);
--   for each part the statement that adds it: none.
-- Reads only the catalogs; locks the partitions in ACCESS SHARE mode as pg_partition_tree does.
--   Expects search_path = pg_catalog, pg_temp.
SELECT
    'pg_namespace' AS catalog,
    n.oid,
    format('CREATE SCHEMA IF NOT EXISTS %I', n.nspname) AS statement,
    NULL AS afterwards,
    '{}'::text[] AS parts,
    '{}'::text[] AS additions
FROM pg_namespace AS n
WHERE n.oid = ANY ($1::oid[])
UNION ALL
SELECT
    'pg_extension',
    e.oid,
    format('CREATE EXTENSION IF NOT EXISTS %I SCHEMA %I', e.extname, n.nspname),
    NULL,
    ARRAY[quote_ident(n.nspname)],
    '{}'
FROM pg_extension AS e
JOIN pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.oid = ANY ($1::oid[])
UNION ALL
-- The columns that hold a collation's locale have other names in every other version: read them by name.
SELECT
    'pg_collation',
    c.oid,
    format('CREATE COLLATION IF NOT EXISTS %I.%I (%s)', n.nspname, c.collname, concat_ws(', ',
        'PROVIDER = ' || CASE c.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
        CASE
            WHEN c.collprovider <> 'c' THEN 'LOCALE = ' || quote_literal(
                coalesce(j.row ->> 'colllocale', j.row ->> 'colliculocale', j.row ->> 'collcollate'))
            ELSE format('LC_COLLATE = %L, LC_CTYPE = %L', j.row ->> 'collcollate', j.row ->> 'collctype')
        END,
        'RULES = ' || quote_literal(j.row ->> 'collicurules'),
        CASE WHEN NOT c.collisdeterministic THEN 'DETERMINISTIC = false' END
    )),
    NULL,
    '{}',
    '{}'
FROM pg_collation AS c
JOIN pg_namespace AS n ON n.oid = c.collnamespace
CROSS JOIN LATERAL (SELECT to_jsonb(c) AS row) AS j
WHERE c.oid = ANY ($1::oid[])
UNION ALL
SELECT
    'pg_class',
    c.oid,
    format(
        'CREATE SEQUENCE IF NOT EXISTS %I.%I AS %s INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s%s',
        n.nspname, c.relname, format_type(s.seqtypid, NULL), s.seqincrement, s.seqmin, s.seqmax, s.seqstart, s.seqcache,
        CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END
    ),
    (
        SELECT format('ALTER SEQUENCE %I.%I OWNED BY %I.%I.%I', n.nspname, c.relname, tn.nspname, t.relname, a.attname)
        FROM pg_depend AS o
        JOIN pg_class AS t ON t.oid = o.refobjid
        JOIN pg_namespace AS tn ON tn.oid = t.relnamespace
        JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = o.refobjsubid
        WHERE o.classid = 'pg_class'::regclass AND o.objid = c.oid AND o.deptype = 'a'
            AND o.refclassid = 'pg_class'::regclass
            AND (t.oid = $2::oid OR t.oid IN (SELECT relid FROM pg_partition_tree($2::oid::regclass)))
    ),
    '{}',
    '{}'
FROM pg_sequence AS s
JOIN pg_class AS c ON c.oid = s.seqrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = ANY ($1::oid[])
