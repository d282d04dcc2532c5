-- Registers a table whose copy starts now, and the replica's position if it has none yet.
-- Parameters: $1 int4: its number; $2, $3 text: schema and name; $4, $5 text[]: columns and key; $6 int8:
-- definition; $7 bool: whether pgfanout made it; $8 pg_snapshot as text: where the copy starts; $9, $10
-- int8: rows and bytes to expect; $11 text: the primary's epoch.
-- Writes pgfanout.position, pgfanout.replicated_table.
WITH
    first_position AS (
        INSERT INTO pgfanout.position (epoch, snapshot)
        VALUES ($11::text::uuid, $8::text::pg_snapshot)
        ON CONFLICT DO NOTHING
    )
INSERT INTO pgfanout.replicated_table (
    id, schema_name, table_name, columns, key_columns, definition, created, snapshot, copying,
    rows_expected, bytes_expected
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::pg_snapshot, true, $9, $10)
