-- What keeps DDL from being followed on the primary. Returns for each: what; the remedy.
-- Event triggers can be turned off from PostgreSQL 17 on, by a setting of the server, or of databases and roles, for whose
-- sessions it is then so; before, it is unknown there. Reads catalogs only, whatever is installed.
SELECT format('event_triggers is off for %s',
        concat_ws(' in ', 'role ' || r.rolname, CASE WHEN s.setdatabase <> 0 THEN 'this database' END,
            CASE WHEN s.setrole = 0 AND s.setdatabase = 0 THEN 'all roles' END)) AS what,
    format('ALTER %s RESET event_triggers', CASE
        WHEN s.setrole = 0 AND s.setdatabase = 0 THEN 'ROLE ALL'
        WHEN s.setrole = 0 THEN 'DATABASE ' || quote_ident(current_database())
        WHEN s.setdatabase = 0 THEN 'ROLE ' || quote_ident(r.rolname)
        ELSE 'ROLE ' || quote_ident(r.rolname) || ' IN DATABASE ' || quote_ident(current_database())
    END) AS remedy
FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
    AND EXISTS (SELECT FROM unnest(s.setconfig) c WHERE split_part(c, '=', 1) = 'event_triggers' AND NOT split_part(c, '=', 2)::bool)
UNION ALL
SELECT 'event_triggers is off', 'ALTER SYSTEM SET event_triggers = on, or in the file where it is off; then SELECT pg_reload_conf()'
FROM pg_settings s WHERE s.name = 'event_triggers' AND s.setting = 'off' AND s.source NOT IN ('database', 'user', 'database user', 'global')
UNION ALL
SELECT format('event trigger %s is disabled', e.evtname), format('ALTER EVENT TRIGGER %I ENABLE ALWAYS', e.evtname)
FROM pg_event_trigger e WHERE e.evtname IN ('pgfanout_follow_ddl', 'pgfanout_note_rewrite') AND e.evtenabled <> 'A'
