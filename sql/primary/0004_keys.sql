-- The keys of many rows, in place of the one in key: of a statement that changes very many rows an entry names many, since
-- what an entry costs is most of what it takes to log a row.
ALTER TABLE pgfanout.changelog ADD COLUMN keys pg_catalog.text[] COLLATE pg_catalog."C";

-- It has more parameters now, and is created anew with the other functions.
DROP FUNCTION IF EXISTS pgfanout.log_in_segment(pg_catalog.text, pg_catalog.text);
