-- The role that pgfanout connects as, with no more rights than it needs. For psql, as a superuser, in the database:
--
--   psql -v ON_ERROR_STOP=1 -v side=primary -v role=pgfanout -d DATABASE -f roles.sql
--   psql -v ON_ERROR_STOP=1 -v side=replica -v role=pgfanout -d DATABASE -f roles.sql
--
-- May be repeated, as after new schemas. Gives the role no password: \password does. Tables that a replica has
-- already must belong to the role: `pgfanout check` prints the statements.

SELECT format('CREATE ROLE %I LOGIN', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = :'role') \gexec

SELECT
    :'side' = 'replica' AND current_setting('server_version_num')::int4 >= 150000 AS narrow,
    :'side' NOT IN ('primary', 'replica') AS unknown \gset

\if :unknown
    \warn 'side must be primary or replica'
    SELECT 1 / 0 AS side;
\elif :narrow
    -- Triggers and foreign keys were obeyed on the primary: they must not fire again.
    GRANT SET ON PARAMETER session_replication_role TO :"role";
    -- pgfanout's own schema, and those of the primary that are not there.
    SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), :'role') \gexec
    -- Missing tables are created in the schemas that are there.
    SELECT format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', n.nspname, :'role')
    FROM pg_namespace n
    WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgfanout', 'pgfanout_status') \gexec
\else
    -- On the primary event triggers follow DDL, which only superusers may create, and what all roles write is
    -- captured; older replicas cannot grant the parameter.
    ALTER ROLE :"role" SUPERUSER;
\endif
