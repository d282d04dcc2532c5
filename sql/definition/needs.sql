-- Purpose: everything outside the table that its columns, defaults, checks and indexes need and that is not
--   part of PostgreSQL itself: schemas, extensions, types, collations, sequences, and also what can't be
--   copied: functions, operators, operator classes, text search configurations, other tables.
-- Parameters: $1 oid of the table.
-- Returns: one row per object, those that others need first: the catalog it is in, its oid, its kind and its
--   qualified name in the words of pg_identify_object. Of a member of an extension the extension.
-- Reads only the catalogs; locks the partitions in ACCESS SHARE mode as pg_partition_tree does.
--   Expects search_path = pg_catalog, pg_temp.
WITH RECURSIVE member (oid) AS (
    SELECT relid::oid FROM pg_partition_tree($1::oid::regclass)
    UNION
    SELECT $1::oid
),
-- Not foreign keys, triggers, rules and policies: they are not copied.
seed (classid, objid) AS (
    SELECT 'pg_class'::regclass::oid, oid FROM member
    UNION ALL
    SELECT 'pg_class'::regclass, indexrelid FROM pg_index JOIN member ON oid = indrelid WHERE indisvalid
    UNION ALL
    SELECT 'pg_attrdef'::regclass, d.oid FROM pg_attrdef AS d JOIN member AS m ON m.oid = d.adrelid
    UNION ALL
    SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint AS c JOIN member AS m ON m.oid = c.conrelid
    WHERE c.contype IN ('c', 'p', 'u', 'x') AND c.convalidated
),
need (classid, objid, depth) AS (
    SELECT classid, objid, 0 FROM seed
    UNION
    SELECT edge.classid, edge.objid, need.depth + 1
    FROM need
    LEFT JOIN pg_class AS c ON need.classid = 'pg_class'::regclass AND c.oid = need.objid
    CROSS JOIN LATERAL (
        SELECT EXISTS (
            SELECT FROM pg_depend AS e
            WHERE e.classid = need.classid AND e.objid = need.objid AND e.deptype = 'e'
        ) AND need.depth > 0 AS in_extension
    ) AS place
    CROSS JOIN LATERAL (
        SELECT d.refclassid AS classid, d.refobjid AS objid
        FROM pg_depend AS d
        WHERE d.classid = need.classid AND d.objid = need.objid
            AND CASE
                WHEN place.in_extension THEN d.deptype = 'e'
                WHEN d.deptype NOT IN ('n', 'a', 'i') OR d.refclassid = 'pg_constraint'::regclass THEN false
                WHEN need.classid = 'pg_class'::regclass AND c.relkind = 'S' THEN d.refclassid = 'pg_namespace'::regclass
                -- A table needs no table: that would be what it inherits from.
                WHEN need.classid = 'pg_class'::regclass THEN
                    (need.depth = 0 OR c.relkind = 'c')
                    AND d.refclassid NOT IN ('pg_class'::regclass, 'pg_am'::regclass)
                ELSE need.classid IN (
                    'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_type'::regclass,
                    'pg_collation'::regclass, 'pg_extension'::regclass
                )
            END
            -- The way back from the parts of a type to the type.
            AND NOT (
                d.refclassid = 'pg_type'::regclass AND (
                    need.classid = 'pg_class'::regclass
                    AND EXISTS (SELECT FROM pg_type WHERE oid = d.refobjid AND typrelid = need.objid)
                    OR need.classid = 'pg_constraint'::regclass
                    AND EXISTS (SELECT FROM pg_constraint WHERE oid = need.objid AND contypid = d.refobjid)
                )
            )
        UNION ALL
        -- A composite type keeps its attributes in a relation of its own.
        SELECT 'pg_class'::regclass, r.oid
        FROM pg_type AS t
        JOIN pg_class AS r ON r.oid = t.typrelid AND r.relkind = 'c'
        WHERE need.classid = 'pg_type'::regclass AND t.oid = need.objid AND NOT place.in_extension
        UNION ALL
        SELECT 'pg_constraint'::regclass, k.oid
        FROM pg_constraint AS k
        WHERE need.classid = 'pg_type'::regclass AND k.contypid = need.objid AND k.contype = 'c' AND k.convalidated
            AND NOT place.in_extension
    ) AS edge
    -- Objects of PostgreSQL itself have oids below 16384; public is one of them, but may have been dropped.
    WHERE (edge.objid >= 16384 OR edge.classid = 'pg_namespace'::regclass AND edge.objid = to_regnamespace('public'))
        AND NOT (edge.classid = 'pg_class'::regclass AND edge.objid IN (SELECT oid FROM member))
        -- Dependencies have no circles; should one appear, this ends all the same.
        AND need.depth < 100
)
SELECT need.classid::regclass::text AS catalog, need.objid AS oid, i.type AS kind, i.identity
FROM need
LEFT JOIN pg_class AS c ON need.classid = 'pg_class'::regclass AND c.oid = need.objid
LEFT JOIN pg_type AS t ON need.classid = 'pg_type'::regclass AND t.oid = need.objid
CROSS JOIN LATERAL pg_identify_object(need.classid, need.objid, 0) AS i
WHERE need.depth > 0
    AND need.classid NOT IN ('pg_attrdef'::regclass, 'pg_constraint'::regclass)
    AND c.relkind IS DISTINCT FROM 'c'
    -- Made along with another: arrays, multiranges, the row types of tables.
    AND (
        t.oid IS NULL
        OR t.typtype <> 'm'
        AND NOT EXISTS (SELECT FROM pg_type AS element WHERE element.typarray = t.oid)
        AND (t.typtype <> 'c' OR EXISTS (SELECT FROM pg_class WHERE oid = t.typrelid AND relkind = 'c'))
    )
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE e.classid = need.classid AND e.objid = need.objid AND e.deptype = 'e'
    )
GROUP BY need.classid, need.objid, i.type, i.identity
ORDER BY max(need.depth) DESC, i.type, i.identity
