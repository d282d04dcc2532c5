-- What a database tells of itself and of the session that asks, whatever is installed there.
-- Returns one row: version; encoding; role, quoted; is_standby; tls: its version, empty without; is_local: the session comes
-- from the server's own machine; backend: who serves it; clock in seconds since 1970; connections: how many
-- more there may be for this role; settings that are unwise, each a name with its value, beside why and how it should
-- be; alters_system: ALTER SYSTEM is allowed.
-- Reads catalogs and functions only.
SELECT
    current_setting('server_version') AS version,
    current_setting('server_version_num')::int4 AS version_number,
    current_setting('server_encoding') AS encoding,
    quote_ident(current_user) AS role,
    quote_ident(current_database()) AS database,
    pg_is_in_recovery() AS is_standby,
    coalesce((SELECT s.version FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid() AND s.ssl), '') AS tls,
    inet_client_addr() IS NOT DISTINCT FROM inet_server_addr() AS is_local,
    pg_backend_pid() AS backend,
    extract(epoch FROM clock_timestamp())::float8 AS clock,
    current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8
        -- From PostgreSQL 16 on some are kept for a role and its members.
        - coalesce((
            SELECT current_setting('reserved_connections', true)::int8
            FROM pg_roles r
            WHERE r.rolname = 'pg_use_reserved_connections' AND NOT pg_has_role(r.oid, 'USAGE')
        ), 0)
        - (SELECT count(*) FROM pg_stat_activity a WHERE a.backend_type = 'client backend') AS connections,
    ARRAY(
        SELECT format('%s is %s: %s', s.name, current_setting(s.name), s.why)
        FROM (VALUES
            ('fsync', 'off', 'a crash of the machine may take back what others have been told'),
            ('full_page_writes', 'off', 'a crash of the machine may destroy the database'),
            ('track_activities', 'off', 'a process that was stopped is not noticed by the one that stands by')
        ) s (name, unwise, why)
        WHERE current_setting(s.name) = s.unwise
    ) AS unwise,
    ARRAY(
        SELECT s.name || ' = on'
        FROM (VALUES ('fsync'), ('full_page_writes'), ('track_activities')) s (name)
        WHERE current_setting(s.name) = 'off'
    ) AS wise,
    -- A setting from PostgreSQL 17 on.
    coalesce(current_setting('allow_alter_system', true)::bool, true) AS alters_system,
    current_setting('max_prepared_transactions') <> '0' AS prepares
