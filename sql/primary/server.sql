-- Whether pgfanout can be, and is, installed here. Reads catalogs only.
SELECT
    current_setting('server_version_num')::int4 AS server_version,
    current_setting('is_superuser')::bool AS is_superuser,
    current_user::text AS role,
    pg_is_in_recovery() AS is_standby,
    to_regnamespace('pgfanout') IS NOT NULL AS has_schema,
    to_regclass('pgfanout.installation') IS NOT NULL AS is_installed,
    current_setting('max_prepared_transactions') = '0' AS notify
