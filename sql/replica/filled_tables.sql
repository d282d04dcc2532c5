-- The tables here whose rows are pgfanout's own, also of such as left: those of which the primary has another now, or
-- none, may be emptied. Returns for each its schema, its name, and its oid on the primary when it was filled.
-- Reads pgfanout.filled_table, catalogs.
SELECT f.schema_name, f.table_name, f.there
FROM
    pgfanout.filled_table f
    JOIN pg_class c ON c.oid = f.here AND c.relname = f.table_name
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = f.schema_name
