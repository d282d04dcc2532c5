-- On the primary and on replicas. The text of a row in UTF-8; null if it is too large for PostgreSQL to print. For
-- readers, where the sizes of its values do not tell. row_value: any. No table touched.
CREATE OR REPLACE FUNCTION pgfanout.row_bytes(row_value pg_catalog.record) RETURNS pg_catalog.bytea
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN pg_catalog.convert_to(row_value::pg_catalog.text, 'UTF8');
EXCEPTION WHEN program_limit_exceeded OR internal_error THEN
    RETURN NULL;
END
$$;
