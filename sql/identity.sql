-- What tells a database from every other: its cluster's identifier, with when that was started, since
-- copies of a cluster's files share the identifier; and its oid. Reads catalogs and functions only.
SELECT
    s.system_identifier::text || ' ' || pg_postmaster_start_time()::text AS cluster,
    d.oid AS database
FROM
    pg_control_system() s
    CROSS JOIN pg_database d
WHERE d.datname = current_database()
