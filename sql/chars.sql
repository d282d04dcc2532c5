-- On the primary and on replicas. PostgreSQL 14 and older print a "char" beyond ASCII as its byte, which is no text in
-- most encodings, and read the form that newer ones print it in as a backslash. These print and read that form
-- everywhere: the byte as three octal digits behind a backslash. No table touched. No backslash in a literal: its
-- meaning depends on standard_conforming_strings.
CREATE OR REPLACE FUNCTION pgfanout.print_char(value pg_catalog."char") RETURNS pg_catalog.text
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE
        WHEN n OPERATOR(pg_catalog.>=) 0 THEN pg_catalog.format('%s', value)
        ELSE pg_catalog.concat(
            pg_catalog.chr(92),
            n OPERATOR(pg_catalog.>>) 6 OPERATOR(pg_catalog.&) 3,
            n OPERATOR(pg_catalog.>>) 3 OPERATOR(pg_catalog.&) 7,
            n OPERATOR(pg_catalog.&) 7)
    END
    FROM (SELECT value::pg_catalog.int4) c (n)
$$;

CREATE OR REPLACE FUNCTION pgfanout.read_char(printed pg_catalog.text) RETURNS pg_catalog."char"
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN ascii(printed) = 92 AND substr(printed, 2) ~ '^[23][0-7][0-7]$' THEN
            (substr(printed, 2, 1)::int4 * 64 + substr(printed, 3, 1)::int4 * 8 + substr(printed, 4, 1)::int4 - 256)::"char"
        ELSE printed::"char"
    END
$$;

-- The same of the elements of an array, in their order.
CREATE OR REPLACE FUNCTION pgfanout.read_chars(printed pg_catalog.text[]) RETURNS pg_catalog."char"[]
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
    SELECT array_agg(pgfanout.read_char(p.text) ORDER BY p.n) FROM unnest(printed) WITH ORDINALITY p (text, n)
$$;
