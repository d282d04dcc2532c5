-- What our role may do with tables at a replica, before anything is installed there.
-- Parameters: $1 schemas, $2 names of tables on the primary, unquoted; arrays of one length.
-- Returns: one row per table in the same order: table_name and schema_name, quoted; is_there: something has that
--   name; may_write: the role owns it; may_create: the role could make it; policies: row level security would
--   keep rows from the role.
-- Reads only the catalogs; takes no lock. Expects search_path = pg_catalog, pg_temp.
SELECT
    format('%I.%I', t.schema_name, t.table_name) AS table_name,
    quote_ident(t.schema_name) AS schema_name,
    c.oid IS NOT NULL AS is_there,
    coalesce(pg_has_role(c.relowner, 'USAGE'), false) AS may_write,
    CASE
        WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
        ELSE has_schema_privilege(n.oid, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE')
    END AS may_create,
    n.oid IS NOT NULL AS has_schema,
    coalesce(c.relrowsecurity AND c.relforcerowsecurity, false)
        AND NOT (SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles r WHERE r.rolname = current_user) AS policies
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY t (schema_name, table_name, place)
LEFT JOIN pg_namespace n ON n.nspname = t.schema_name
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.table_name
ORDER BY t.place
