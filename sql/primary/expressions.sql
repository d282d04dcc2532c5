-- Text of values inside the application's transactions. What these functions generate is compiled into
-- the trigger functions, which run as a superuser under the application's settings and search path. So:
-- * every name is qualified, and nothing is cast but between built-in types: a user may define a cast
--   from a type of his own, and it would run as us; format() calls the output function instead;
-- * no backslash in a literal: its meaning depends on standard_conforming_strings;
-- * date and time types go through JSON, whose form of them ignores DateStyle.

-- How a type's text comes about: {kind: plain | number | text | date | timestamp | timestamptz | bytea |
-- char | free | pinned}. Kinds but the last print the same under all settings as generated below.
-- Decided by the output function, which a domain shares with its base type. Reads pg_type and pg_proc.
CREATE OR REPLACE FUNCTION pgfanout.text_kind(type pg_catalog.oid) RETURNS pg_catalog.text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN p.prolang <> 12 THEN 'pinned'
        WHEN t.oid >= 16384 AND t.typtype <> 'd' THEN
            CASE WHEN p.prosrc IN ('enum_out', 'textout') THEN 'free' ELSE 'pinned' END
        WHEN p.prosrc IN ('int2out', 'int4out', 'int8out', 'numeric_out', 'boolout') THEN 'number'
        WHEN p.prosrc IN ('textout', 'varcharout', 'nameout') THEN 'text'
        WHEN p.prosrc IN ('uuid_out', 'oidout') THEN 'plain'
        WHEN p.prosrc = 'date_out' THEN 'date'
        WHEN p.prosrc = 'timestamp_out' THEN 'timestamp'
        WHEN p.prosrc = 'timestamptz_out' THEN 'timestamptz'
        WHEN p.prosrc = 'byteaout' THEN 'bytea'
        WHEN p.prosrc = 'charout' AND current_setting('server_version_num')::int4 < 150000 THEN 'char'
        -- Blanks at the end of a bpchar are lost in a cast, not in its output function.
        WHEN p.prosrc IN ('bpcharout', 'charout', 'enum_out', 'inet_out', 'cidr_out', 'macaddr_out',
            'macaddr8_out', 'time_out', 'timetz_out', 'bit_out', 'varbit_out', 'pg_lsn_out', 'xid8out',
            'xidout', 'tidout', 'jsonb_out') THEN 'free'
        ELSE 'pinned'
    END
    FROM pg_type t JOIN pg_proc p ON p.oid = t.typoutput
    WHERE t.oid = type
$$;

-- SQL that prints one value as the pinned session prints it. value: SQL of the value, kind: its text_kind.
CREATE OR REPLACE FUNCTION pgfanout.text_expression(value pg_catalog.text, kind pg_catalog.text)
RETURNS pg_catalog.text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE kind
        WHEN 'number' THEN value || '::pg_catalog.text'
        WHEN 'text' THEN value || '::pg_catalog.text'
        WHEN 'plain' THEN value || '::pg_catalog.text'
        WHEN 'date' THEN format('pg_catalog.btrim(pg_catalog.to_json(%s)::pg_catalog.text, ''"'')', value)
        WHEN 'timestamp' THEN format(
            'pg_catalog.replace(pg_catalog.btrim(pg_catalog.to_json(%s)::pg_catalog.text, ''"''), ''T'', '' '')',
            value)
        -- The zone's place is before BC, and infinity has none.
        WHEN 'timestamptz' THEN format(
            'pg_catalog.replace(pg_catalog.replace(pg_catalog.concat(%s, ''+00''),'
            ' '' BC+00'', ''+00 BC''), ''infinity+00'', ''infinity'')',
            pgfanout.text_expression(format('pg_catalog.timezone(''UTC'', %s)', value), 'timestamp'))
        WHEN 'bytea' THEN format('pg_catalog.concat(pg_catalog.chr(92), ''x'', pg_catalog.encode(%s, ''hex''))', value)
        WHEN 'char' THEN format('pgfanout.print_char(%s)', value)
        ELSE format('pg_catalog.format(''%%s'', %s)', value)
    END
$$;

-- SQL of the changelog's key of a row. relation: the table; key_columns: of its key; row_name: the row's
-- alias or variable in the trigger function. Reads pg_attribute.
CREATE OR REPLACE FUNCTION pgfanout.key_expression(
    relation pg_catalog.oid, key_columns pg_catalog.text[], row_name pg_catalog.text)
RETURNS pg_catalog.text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN cardinality(key_columns) = 1 THEN min(part)
        ELSE format('ROW(%s)::pg_catalog.text', string_agg(part, ', ' ORDER BY place))
    END
    FROM (
        SELECT k.place, pgfanout.text_expression(
            format('%s.%I', row_name, k.name), pgfanout.text_kind(a.atttypid)) AS part
        FROM unnest(key_columns) WITH ORDINALITY k (name, place)
        JOIN pg_attribute a ON a.attrelid = relation AND a.attname = k.name AND NOT a.attisdropped
    ) parts
$$;

-- The SET clause that a function needs for the keys of a table: empty for nearly all, since it costs more
-- than the rest of the trigger. relation; key_columns: as above, or all where there is no key. Reads pg_attribute.
CREATE OR REPLACE FUNCTION pgfanout.pins(relation pg_catalog.oid, key_columns pg_catalog.text[])
RETURNS pg_catalog.text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(max(
        ' SET search_path = pg_catalog, pg_temp SET datestyle = ''ISO, YMD'' SET intervalstyle = ''postgres'''
        ' SET timezone = ''UTC'' SET extra_float_digits = 3 SET bytea_output = ''hex'' SET lc_monetary = ''C'''
        ' SET quote_all_identifiers = off'), '')
    FROM pg_attribute a
    WHERE a.attrelid = relation AND a.attname = ANY (key_columns) AND NOT a.attisdropped
        AND pgfanout.text_kind(a.atttypid) = 'pinned'
$$;

-- SQL of a value as it stands in a logged row: numbers and booleans as they are, all else as text, or blanks where
-- that is longer than `largest` bytes. value: SQL of it, type: its type.
CREATE OR REPLACE FUNCTION pgfanout.value_expression(
    value pg_catalog.text, type pg_catalog.oid, largest pg_catalog.int4)
RETURNS pg_catalog.text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN kind IN ('number', 'text', 'plain') OR type IN (700, 701) OR type = 1042 THEN value
        -- A composite of nulls IS NULL, but is not distinct from null only if it is null itself.
        WHEN kind IN ('date', 'timestamp', 'timestamptz', 'bytea', 'char', 'free') AND type <> 3802 THEN
            format('CASE WHEN %s IS DISTINCT FROM NULL THEN %s END', value, pgfanout.text_expression(value, kind))
        -- The text of a jsonb or an array of numerics can be a hundred thousand times its size.
        ELSE format(
            'CASE WHEN %1$s IS DISTINCT FROM NULL THEN CASE'
            ' WHEN pg_catalog.pg_column_size(%1$s) OPERATOR(pg_catalog.<=) 600 THEN pg_catalog.format(''%%s'', %1$s)'
            ' WHEN pg_catalog.pg_column_size(%1$s) OPERATOR(pg_catalog.<=) 524288 THEN pgfanout.printed(%1$s, %2$s)'
            ' ELSE pg_catalog.repeat('' '', %3$s) END END', value, largest, largest + 1)
    END
    FROM pgfanout.text_kind(type) kind
$$;

-- The condition under which a row may have no more than `largest` bytes: the writer must not pay for building a
-- larger image of it, which no reader takes. Null: always.
CREATE OR REPLACE FUNCTION pgfanout.is_small(
    relation pg_catalog.oid, row_name pg_catalog.text, largest pg_catalog.int4)
RETURNS pg_catalog.text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    -- Added up without a subquery, to begin which takes a fifth of what capture costs. In groups: a sum of 1,600, each
    -- within the next, may exceed max_stack_depth.
    SELECT string_agg(format('(%s)', g.sum), E'\nOPERATOR(pg_catalog.+) ' ORDER BY g.n)
        || format(' OPERATOR(pg_catalog.<=) %s', largest)
    FROM (
        SELECT a.attnum / 40 AS n,
            string_agg(
                format('COALESCE(pg_catalog.octet_length(%s.%I), 0)::pg_catalog.int8', row_name, a.attname),
                E'\nOPERATOR(pg_catalog.+) ' ORDER BY a.attnum) AS sum
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_proc p ON p.oid = t.typoutput
        WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
            AND p.prosrc IN ('textout', 'varcharout', 'bpcharout', 'byteaout', 'bit_out', 'varbit_out')
            AND p.prolang = 12
            -- A refcursor is printed like a text, but has no octet_length.
            AND (t.typcategory <> 'U' OR p.prosrc = 'byteaout')
            AND (t.oid < 16384 OR t.typtype = 'd')
        GROUP BY n
    ) g
$$;

-- The text of a value in a logged row. One that is too large, perhaps to be printed at all, makes the row larger
-- than readers take: nothing here may fail the application's statement. value: any. No table touched.
CREATE OR REPLACE FUNCTION pgfanout.printed(value anyelement, largest pg_catalog.int4) RETURNS pg_catalog.text
LANGUAGE plpgsql STABLE AS $$
DECLARE
    shown pg_catalog.text;
BEGIN
    shown := pg_catalog.format('%s', value);
    IF pg_catalog.octet_length(shown) OPERATOR(pg_catalog.<=) largest THEN
        RETURN shown;
    END IF;
    RETURN pg_catalog.repeat(' ', largest OPERATOR(pg_catalog.+) 1);
EXCEPTION WHEN OTHERS THEN
    RETURN pg_catalog.repeat(' ', largest OPERATOR(pg_catalog.+) 1);
END
$$;

-- SQL of the text of a whole row, as the pinned session prints it; null where it is too large to be logged.
-- relation: the table; row_name: the row's alias or variable in the trigger function. Reads pg_attribute.
CREATE OR REPLACE FUNCTION pgfanout.row_expression(relation pg_catalog.oid, row_name pg_catalog.text)
RETURNS pg_catalog.text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format(
        '(SELECT CASE WHEN pg_catalog.octet_length(p.printed) OPERATOR(pg_catalog.<=) 1000000 THEN p.printed END'
        ' FROM (SELECT CASE WHEN %s THEN ROW(%s)::pg_catalog.text END AS printed OFFSET 0) p)',
        coalesce(pgfanout.is_small(relation, row_name, 1000000), 'true'),
        string_agg(
            pgfanout.value_expression(format('%s.%I', row_name, a.attname), a.atttypid, 1000000),
            ', ' ORDER BY a.attnum))
    FROM pg_attribute a
    WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
$$;

-- Wakes the publisher; called only while it sleeps. Silent where prepared transactions are allowed, since
-- NOTIFY would make PREPARE TRANSACTION fail, and where the queue of notifications might be full, which
-- would make COMMIT fail: the publisher polls too.
CREATE OR REPLACE FUNCTION pgfanout.wake() RETURNS pg_catalog.void
LANGUAGE plpgsql AS $$
BEGIN
    IF pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0'
        AND pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.5 THEN
        PERFORM pg_catalog.pg_notify('pgfanout_wake', '');
    END IF;
END
$$;
