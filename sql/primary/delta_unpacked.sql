-- The entries of a delta, each with one key. Goes before the statements of its keys, as "entry", where some have many:
-- elsewhere that would be a step more for each. Reads "logged": see delta_entries.sql.
SELECT l.table_id, l.operation, unnest(coalesce(l.keys, ARRAY[l.key])) AS key, l.old, l.logged_at, l.xid
FROM logged l
