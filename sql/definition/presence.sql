-- Purpose: which of the objects that a table needs are there.
-- Parameters: $1 catalogs, $2 kinds, $3 qualified names, $4 for extensions the schema they should be in
--   (quoted); arrays of one length, one place per object.
-- Returns: one row per object in the same order: whether it is there; and what is in the way of creating it
--   and how to remove that, or null.
-- Reads only the catalogs; takes no lock. Expects search_path = pg_catalog, pg_temp.
SELECT
    CASE need.catalog
        WHEN 'pg_namespace' THEN to_regnamespace(need.identity) IS NOT NULL
        WHEN 'pg_type' THEN to_regtype(need.identity) IS NOT NULL
        WHEN 'pg_class' THEN to_regclass(need.identity) IS NOT NULL
        WHEN 'pg_collation' THEN to_regcollation(need.identity) IS NOT NULL
        WHEN 'pg_extension' THEN e.oid IS NOT NULL AND quote_ident(n.nspname) = need.place
        ELSE EXISTS (
            SELECT FROM (
                SELECT 'pg_proc' AS catalog, 'pg_proc'::regclass AS class, oid FROM pg_proc
                UNION ALL
                SELECT 'pg_operator', 'pg_operator'::regclass, oid FROM pg_operator
                UNION ALL
                SELECT 'pg_opclass', 'pg_opclass'::regclass, oid FROM pg_opclass
                UNION ALL
                SELECT 'pg_opfamily', 'pg_opfamily'::regclass, oid FROM pg_opfamily
                UNION ALL
                SELECT 'pg_ts_config', 'pg_ts_config'::regclass, oid FROM pg_ts_config
                UNION ALL
                SELECT 'pg_ts_dict', 'pg_ts_dict'::regclass, oid FROM pg_ts_dict
            ) AS o
            CROSS JOIN LATERAL pg_identify_object(o.class, o.oid, 0) AS i
            -- What comes with PostgreSQL is never needed by name: it is there on both sides.
            WHERE o.oid >= 16384 AND o.catalog = need.catalog AND i.type = need.kind AND i.identity = need.identity
        )
    END AS present,
    CASE
        WHEN need.catalog <> 'pg_extension' THEN NULL
        WHEN e.oid IS NOT NULL AND quote_ident(n.nspname) <> need.place THEN format(
            'it is in schema %I, on the primary in %s; remedy: ALTER EXTENSION %s SET SCHEMA %s',
            n.nspname, need.place, need.identity, need.place)
        WHEN e.oid IS NULL AND NOT EXISTS (SELECT FROM pg_available_extensions WHERE quote_ident(name) = need.identity) THEN
            'it is not available; remedy: install its package on that server'
    END AS obstacle
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
    AS need (catalog, kind, identity, place, number)
LEFT JOIN pg_extension AS e ON need.catalog = 'pg_extension' AND quote_ident(e.extname) = need.identity
LEFT JOIN pg_namespace AS n ON n.oid = e.extnamespace
ORDER BY need.number
