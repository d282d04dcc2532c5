-- Whether the replica is paused. Needs no right on our schema, which may not be there. Reads catalogs.
SELECT
    EXISTS (
        SELECT
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'pgfanout' AND c.relname = 'paused'
    ) AS paused
