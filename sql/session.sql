-- Run once on every connection that pgfanout opens, on the primary and on the replicas.
-- The text of a value must mean the same to the session that prints it and the one that reads it,
-- whatever ALTER ROLE or ALTER DATABASE say; and no name may depend on a search path.
-- The limits first: they count from the first statement.
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET default_transaction_isolation = 'read committed';
SET default_transaction_read_only = off;
SET default_transaction_deferrable = off;
-- This transaction has begun before; a serializable one that is read only and deferrable would wait for all others.
SET TRANSACTION ISOLATION LEVEL READ COMMITTED, NOT DEFERRABLE;
SET search_path = pg_catalog, pg_temp;
-- Where the server knows them. Returns no row, as all else here.
SELECT
FROM (VALUES (140000, 'idle_session_timeout'), (170000, 'transaction_timeout')) s (since, name)
WHERE CASE WHEN current_setting('server_version_num')::int4 >= s.since THEN set_config(s.name, '0', false) IS NULL END;
SET client_encoding = 'UTF8';
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = 'postgres';
SET TimeZone = 'UTC';
SET extra_float_digits = 3;
SET bytea_output = 'hex';
SET lc_monetary = 'C';
SET xmloption = 'content';
SET array_nulls = on;
SET standard_conforming_strings = on;
SET quote_all_identifiers = off;
SET row_security = off;
SET jit = off;
SET synchronous_commit = on;
-- A client whose machine or link is gone without a word is noticed by the server, too.
SET tcp_keepalives_idle = 10;
SET tcp_keepalives_interval = 5;
SET tcp_keepalives_count = 3;
SET tcp_user_timeout = '20s';
