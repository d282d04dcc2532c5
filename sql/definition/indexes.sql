-- Purpose: the indexes of a table and of its partitions, with the constraints that own them.
--   One that is not valid serves nobody on the primary and may be violated; it is left out.
-- Parameters: $1 oid of the table.
-- Returns: one row per index that does not come from an index of a parent in the same tree: the quoted name
--   of its table, its name, the statement that creates it, the same without the names, and, if it can identify rows of the whole table
--   (unique, immediate or the primary key, over plain columns and all rows), its columns in the order of their names, else null.
-- Reads only the catalogs; locks the partitions in ACCESS SHARE mode as pg_partition_tree does.
--   Expects search_path = pg_catalog, pg_temp.
SELECT
    t."table",
    ic.relname::text AS name,
    CASE
        WHEN k.oid IS NOT NULL THEN format('ALTER TABLE %s ADD CONSTRAINT %I %s', t."table", k.conname, m.meaning)
        ELSE format('CREATE %sINDEX IF NOT EXISTS %I ON %s%s', u.word, ic.relname, t."table", m.meaning)
    END AS statement,
    u.word || m.meaning AS meaning,
    CASE
        WHEN i.indrelid = $1::oid AND i.indisunique AND (i.indimmediate OR i.indisprimary) AND NOT i.indisexclusion
            AND i.indpred IS NULL AND i.indexprs IS NULL AND am.amname = 'btree'
        THEN ARRAY(
            SELECT a.attname::text
            FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS part (attnum, place)
            JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
            WHERE part.place <= i.indnkeyatts
            ORDER BY a.attname COLLATE "C"
        )
    END AS identifies
FROM pg_index AS i
JOIN pg_class AS ic ON ic.oid = i.indexrelid
JOIN pg_am AS am ON am.oid = ic.relam
JOIN pg_class AS c ON c.oid = i.indrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
CROSS JOIN LATERAL (SELECT format('%I.%I', n.nspname, c.relname) AS "table") AS t
CROSS JOIN LATERAL (SELECT CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END AS word) AS u
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN k.oid IS NOT NULL THEN pg_get_constraintdef(k.oid)
        -- What follows the table's name. Of a partitioned table the server prints ON ONLY.
        ELSE substr(
            pg_get_indexdef(i.indexrelid),
            1 + length(format(
                'CREATE %sINDEX %I ON %s%s', u.word, ic.relname,
                CASE ic.relkind WHEN 'I' THEN 'ONLY ' ELSE '' END, t."table"
            ))
        )
    END AS meaning
) AS m
WHERE i.indisvalid AND i.indislive
    AND (
        i.indrelid = $1::oid
        OR i.indrelid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass))
        AND NOT EXISTS (
            SELECT FROM pg_inherits AS h
            JOIN pg_index AS above ON above.indexrelid = h.inhparent
            WHERE h.inhrelid = i.indexrelid AND above.indisvalid
        )
    )
-- The table's own first: those of a partition that equal them then find their place taken.
ORDER BY i.indrelid <> $1::oid, NOT i.indisprimary, 1, 2
