-- The types of a table's columns, if the binary form of each is exact and the same on every server: those that are
-- PostgreSQL's own, hold neither oids nor settings, and have a form that no version between theirs changed; arrays of them, domains
-- over them, and enums, which travel as their labels.
-- Parameters: $1 text: the table, its name quoted and with schema; $2 text[]: its columns.
-- Returns one row: the base type of each column in the order of $2, by its oid or as "enum"; NULL if one of them is
-- none of these.
-- Reads: catalogs only.
WITH RECURSIVE base AS (
    SELECT c.n, a.atttypid AS oid
    FROM
        unnest($2::text[]) WITH ORDINALITY AS c (name, n)
        LEFT JOIN pg_attribute a
            ON a.attrelid = $1::text::regclass AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.n, t.typbasetype
    FROM base b JOIN pg_type t ON t.oid = b.oid
    WHERE t.typtype = 'd'
)
SELECT CASE WHEN bool_and(f.form IS NOT NULL) THEN array_agg(f.form ORDER BY b.n) END AS types
FROM
    base b
    LEFT JOIN pg_type t ON t.oid = b.oid
    LEFT JOIN LATERAL (
        SELECT CASE
            WHEN t.typtype = 'e' THEN 'enum'
            -- An array tells the oid of its elements, which is the same everywhere where they are PostgreSQL's own. A
            -- vector is no array here: PostgreSQL does not read what it writes of an empty one.
            WHEN CASE WHEN t.typsend = 'array_send'::regproc THEN t.typelem ELSE t.oid END IN (
                'bool'::regtype, 'bytea'::regtype, 'int8'::regtype, 'int2'::regtype, 'int4'::regtype,
                'text'::regtype, 'json'::regtype, 'float4'::regtype, 'float8'::regtype, 'bpchar'::regtype,
                'varchar'::regtype, 'date'::regtype, 'time'::regtype, 'timestamp'::regtype,
                'timestamptz'::regtype, 'interval'::regtype, 'timetz'::regtype, 'numeric'::regtype,
                'uuid'::regtype, 'jsonb'::regtype, 'inet'::regtype, 'cidr'::regtype
            -- An infinite interval, as PostgreSQL 17 has it, is a finite one before, in the same bytes.
            ) THEN t.oid || CASE
                WHEN 'interval'::regtype IN (t.oid, t.typelem) AND current_setting('server_version_num')::int4 >= 170000
                    THEN ' with infinity'
                ELSE ''
            END
        END AS form
    ) f ON true
WHERE t.typtype IS DISTINCT FROM 'd'
