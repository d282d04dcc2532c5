-- Purpose: the partitions of a table, on every level, those above before those below.
-- Parameters: $1 oid of the table.
-- Returns: one row per partition: its quoted name, its parent's, its bound, its own partition key or null,
--   the columns in which it differs from its parent as PARTITION OF takes them, whether it is foreign.
-- Reads only the catalogs; locks the partitions in ACCESS SHARE mode as pg_partition_tree does.
--   Expects search_path = pg_catalog, pg_temp.
WITH unproven AS (
    SELECT conrelid, conkey[1] FROM pg_constraint WHERE contype = 'n' AND NOT convalidated
)
SELECT
    format('%I.%I', n.nspname, c.relname) AS "table",
    format('%I.%I', pn.nspname, pc.relname) AS parent,
    pg_get_expr(c.relpartbound, c.oid) AS bound,
    pg_get_partkeydef(c.oid) AS partition_key,
    ARRAY(
        SELECT concat(
            quote_ident(a.attname),
            CASE
                WHEN own.expression IS NOT DISTINCT FROM above.expression THEN ''
                WHEN a.attgenerated = 's' THEN format(' GENERATED ALWAYS AS (%s) STORED', own.expression)
                WHEN a.attgenerated = 'v' THEN format(' GENERATED ALWAYS AS (%s) VIRTUAL', own.expression)
                ELSE ' DEFAULT ' || own.expression
            END,
            CASE WHEN proven.here AND NOT proven.above THEN ' NOT NULL' END
        )
        FROM pg_attribute AS a
        JOIN pg_attribute AS pa ON pa.attrelid = pc.oid AND pa.attname = a.attname AND NOT pa.attisdropped
        LEFT JOIN LATERAL (
            SELECT pg_get_expr(adbin, adrelid) AS expression
            FROM pg_attrdef WHERE adrelid = a.attrelid AND adnum = a.attnum
        ) AS own ON true
        LEFT JOIN LATERAL (
            SELECT pg_get_expr(adbin, adrelid) AS expression
            FROM pg_attrdef WHERE adrelid = pa.attrelid AND adnum = pa.attnum
        ) AS above ON true
        -- Until a NOT NULL is validated (PostgreSQL 18), rows that violate it may exist.
        CROSS JOIN LATERAL (
            SELECT
                a.attnotnull AND (a.attrelid, a.attnum) NOT IN (TABLE unproven) AS here,
                pa.attnotnull AND (pa.attrelid, pa.attnum) NOT IN (TABLE unproven) AS above
        ) AS proven
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            AND (own.expression <> coalesce(above.expression, '') OR proven.here AND NOT proven.above)
        ORDER BY a.attname
    ) AS overrides,
    c.relkind = 'f' AS "foreign"
FROM pg_partition_tree($1::oid::regclass) AS tree
JOIN pg_class AS c ON c.oid = tree.relid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_class AS pc ON pc.oid = tree.parentrelid
JOIN pg_namespace AS pn ON pn.oid = pc.relnamespace
WHERE tree.relid <> $1::oid
ORDER BY tree.level, 1
