-- What shows cheaply whether a table was altered: its name, its columns with their types, and its partitions.
-- Returns for each table its oid and a number that is another then. Looked at with each commit, for the tables that it
-- writes (15 to 30 us each); TRUNCATE, VACUUM and ANALYZE leave it as it is. Reads catalogs.
SELECT
    c.oid,
    hashtext(c.relname::text)::int8
    + hashint8(c.relnamespace::int8)
    + coalesce((
        SELECT
            sum(hashint8(
                (hashtext(a.attname::text)::int8 << 16) # (a.atttypid::int8 << 8) # a.atttypmod # (a.attnum::int8 << 48)
                # ((a.attgenerated = '')::int4::int8 << 47)
            ))
        FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0
    ), 0)
    + coalesce((SELECT sum(hashint8(i.inhrelid::int8)) FROM pg_inherits i WHERE c.relkind = 'p' AND i.inhparent = c.oid), 0)
    AS form
FROM pg_class c
