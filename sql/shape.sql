-- The columns of a table as they are replicated.
-- Parameters: $1 oid: the table; $2 text[]: its replicated columns, $3 text[]: its key columns.
-- Returns a row a column, in the order of $2: its name; how it is written in JSON ("n" number,
-- "b" boolean, "t" text); how long its text may be: "o" as octet_length tells without reading it, "p" as only
-- printing shows, "s" short; whether it is a "char", and the server one that reads what newer ones print of it as another;
-- and for a key column its place in the key from 1, the quoted name of its type without modifier, its equality operator, whether rows may be compared by "<" without naming a schema,
-- and whether equal keys may be printed differently. Each row also has the names of the columns that are not in
-- $2 and may be written (only a replica has such).
-- Reads: catalogs only.
SELECT
    a.attname::text AS name,
    CASE
        -- A domain has the output function of its base type. Other types of the numeric category, such as
        -- oid and money, are strings in JSON, as in the old rows that capture logs.
        WHEN t.typoutput = 'boolout'::regproc THEN 'b'
        WHEN t.typoutput IN (
            'int2out'::regproc, 'int4out'::regproc, 'int8out'::regproc,
            'float4out'::regproc, 'float8out'::regproc, 'numeric_out'::regproc
        ) THEN 'n'
        ELSE 't'
    END AS kind,
    CASE
        WHEN
            -- A refcursor is printed like a text, but has no octet_length.
            (t.oid < 16384 OR t.typtype = 'd')
            AND (t.typcategory <> 'U' OR t.typoutput = 'byteaout'::regproc)
            AND t.typoutput IN (
                'textout'::regproc, 'varcharout'::regproc, 'bpcharout'::regproc, 'byteaout'::regproc
            ) THEN 'o'
        WHEN t.typlen = -1 AND t.typoutput NOT IN ('numeric_out'::regproc, 'inet_out'::regproc, 'cidr_out'::regproc)
            THEN 'p'
        ELSE 's'
    END AS length,
    t.typoutput = 'charout'::regproc AS is_char,
    current_setting('server_version_num')::int4 < 150000 AS misreads_chars,
    k.place::int4,
    CASE WHEN kt.oid IS NOT NULL THEN format('%I.%I', kn.nspname, kt.typname) END AS type_name,
    CASE WHEN op.oid IS NOT NULL THEN format('OPERATOR(%I.%s)', opn.nspname, op.oprname) END AS equals,
    opn.nspname = 'pg_catalog' AS comparable,
    NOT (
        kt.oid IN (16, 18, 20, 21, 23, 26, 2950, 1082, 1114, 1184)
        OR kt.typtype = 'e'
        OR (kt.oid IN (19, 25, 1043) AND coalesce(kc.collisdeterministic, true))
    ) AS respellable,
    ARRAY(
        SELECT o.attname::text
        FROM pg_attribute o
        WHERE
            o.attrelid = $1
            AND o.attnum > 0
            AND NOT o.attisdropped
            AND o.attgenerated = ''
            AND o.attname <> ALL ($2::text[])
        ORDER BY o.attnum
    ) AS own
FROM
    unnest($2::text[]) WITH ORDINALITY AS c (name, n)
    JOIN pg_attribute a ON a.attrelid = $1 AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN LATERAL (
        SELECT p.place
        FROM unnest($3::text[]) WITH ORDINALITY AS p (name, place)
        WHERE p.name = a.attname
    ) k ON true
    LEFT JOIN LATERAL (
        -- The operator class of the unique index says what equality of the key means.
        SELECT ic.opclass
        FROM
            pg_index i
            CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) AS ic (attnum, opclass)
        WHERE
            k.place IS NOT NULL
            AND i.indrelid = $1
            AND i.indisunique
            AND NOT i.indisexclusion
            AND i.indisvalid
            AND i.indpred IS NULL
            AND i.indexprs IS NULL
            AND ic.attnum = a.attnum
            AND ic.opclass IS NOT NULL
            AND i.indnkeyatts = cardinality($3::text[])
            AND (
                SELECT count(*) = i.indnkeyatts
                FROM
                    unnest((i.indkey::int2[])[0 : i.indnkeyatts - 1]) AS ik (attnum)
                    JOIN pg_attribute ia ON ia.attrelid = $1 AND ia.attnum = ik.attnum
                WHERE ia.attname = ANY ($3::text[])
            )
        ORDER BY i.indisprimary DESC, i.indexrelid
        LIMIT 1
    ) x ON true
    LEFT JOIN pg_opclass oc ON oc.oid = x.opclass
    LEFT JOIN pg_amop ao
        ON
            ao.amopfamily = oc.opcfamily
            AND ao.amoplefttype = oc.opcintype
            AND ao.amoprighttype = oc.opcintype
            AND ao.amopstrategy = 3
    LEFT JOIN pg_operator op ON op.oid = ao.amopopr
    LEFT JOIN pg_namespace opn ON opn.oid = op.oprnamespace
    LEFT JOIN pg_type kt ON k.place IS NOT NULL AND kt.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
    LEFT JOIN pg_namespace kn ON kn.oid = kt.typnamespace
    LEFT JOIN pg_collation kc ON kc.oid = a.attcollation
ORDER BY c.n
