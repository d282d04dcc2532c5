-- Forgets that pgfanout filled tables which left, and are not there any more: their oids may come again; and all, where a
-- dump took the notes to another database. Writes pgfanout.filled_table, reads pgfanout.replicated_table and catalogs.
DELETE FROM pgfanout.filled_table f
WHERE
    f.place <> 'pgfanout.filled_table'::regclass
    OR NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = f.here)
    AND NOT EXISTS (
        SELECT FROM pgfanout.replicated_table t
        WHERE (t.schema_name, t.table_name) = (f.schema_name, f.table_name)
    )
