-- Whether pgfanout can be, and is, installed here. Reads catalogs only.
SELECT
    current_setting('server_version_num')::int4 AS server_version,
    current_setting('is_superuser')::bool AS is_superuser,
    quote_ident(current_user) AS role,
    pg_is_in_recovery() AS is_standby,
    EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = 'pgfanout') AS has_schema,
    -- Not by to_regclass: the role may have no right on the schema, and is told so.
    EXISTS (
        SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'pgfanout' AND c.relname = 'installation'
    ) AS is_installed,
    EXISTS (
        SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'pgfanout' AND c.relname = 'replica_installation'
    ) AS was_replica,
    current_setting('max_prepared_transactions') = '0' AS notify
