-- Notes a table's new definition, which the replica's table was found to fit.
-- Parameters: $1 int4: its number; $2, $3 text: schema and name; $4, $5 text[]: columns and key; $6 int8:
-- definition; $7 bool: whether pgfanout made the table just now, because it was gone. Writes
-- pgfanout.replicated_table.
UPDATE pgfanout.replicated_table
SET schema_name = $2, table_name = $3, columns = $4, key_columns = $5, definition = $6, created = created OR $7
WHERE id = $1
