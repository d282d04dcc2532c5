-- Which tables are still there under the names that they had.
-- Parameters: $1 oid[], $2, $3 text[]: their oids, schemas and names then; arrays of one length.
-- Returns a schema and a name for each. Reads catalogs.
SELECT t.schema_name, t.table_name
FROM
    unnest($1::oid[], $2::text[], $3::text[]) t (relation, schema_name, table_name)
    JOIN pg_class c ON c.oid = t.relation AND c.relname = t.table_name
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = t.schema_name
