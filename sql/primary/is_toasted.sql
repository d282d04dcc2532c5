-- Whether a table may hold values that are stored apart from their rows, among the rows of a snapshot that was taken
-- before: their storage was there by then, and only a rewrite of the table takes it back.
-- Parameter: $1 text: the table, its name quoted and with schema.
-- Reads: pg_class, the sizes of files.
SELECT coalesce(sum(pg_relation_size(c.reltoastrelid)), 0) > 0 AS toasted
FROM pg_class c
WHERE
    c.reltoastrelid <> 0
    AND c.oid = ANY (ARRAY(SELECT p.relid::oid FROM pg_partition_tree($1::text::regclass) p) || $1::text::regclass::oid)
