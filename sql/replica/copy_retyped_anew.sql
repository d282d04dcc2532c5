-- Has a table copied anew, once it fits, if a column of it has another type than when it was compared last: what it held
-- may be lost, also if it gets its type back. Parameters: $1 int4: its number.
-- Writes pgfanout.replicated_table, reads pgfanout.filled_table and catalogs.
UPDATE pgfanout.replicated_table t
SET definition = 0
FROM pgfanout.filled_table f
WHERE
    t.id = $1
    AND (f.schema_name, f.table_name) = (t.schema_name, t.table_name)
    AND f.types <> (SELECT o.types FROM pgfanout.form(f.here, t.columns) o)
