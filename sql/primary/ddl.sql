-- DDL on captured tables: in its own transaction the registry and the triggers follow it, so that no
-- trigger function is left behind that would fail the application. Nothing here may fail the DDL either, nor have it
-- wait: what would take longer than a few milliseconds, as others have locked it, is left to the publisher.

-- Makes one captured table fit again after DDL: renews its capture, logs rows that came or went with a
-- partition, and gives up capture, with the reason in the registry, where it is no longer possible.
-- captured: its row. Locks what the DDL has locked already.
CREATE OR REPLACE FUNCTION pgfanout.follow_table(captured pgfanout.captured_table) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_table pgfanout.candidate;
    leaf oid;
BEGIN
    SELECT * INTO found_table FROM pgfanout.candidate c WHERE c.relation = captured.relation;
    IF NOT found OR pgfanout.is_told_by_root(captured.relation) THEN
        PERFORM pgfanout.release(captured.id);
        RETURN;
    ELSIF found_table.refusal IS NOT NULL THEN
        PERFORM pgfanout.give_up(captured, 'table ' || found_table.refusal);
        RETURN;
    END IF;
    found_table := pgfanout.with_its_key(captured, found_table);
    IF NOT pgfanout.is_current(captured, found_table, captured.old_record) THEN
        IF pgfanout.names_differ(captured, found_table) THEN
            -- All of it is copied anew, whatever partitions came or went.
            PERFORM pgfanout.register(captured, found_table, captured.old_record);
            RETURN;
        END IF;
        FOR leaf IN SELECT unnest(captured.leaves) EXCEPT SELECT unnest(found_table.leaves) LOOP
            PERFORM pgfanout.log_leaf(captured, leaf, 'D');
        END LOOP;
        PERFORM pgfanout.register(captured, found_table, captured.old_record);
        FOR leaf IN SELECT unnest(found_table.leaves) EXCEPT SELECT unnest(captured.leaves) LOOP
            PERFORM pgfanout.log_leaf(captured, leaf, 'I');
        END LOOP;
    END IF;
END
$$;

-- Logs every row of a leaf that joined (I) or left (D) a captured partition root. Of a leaf that is gone
-- the keys can't be known: the root is marked as rewritten.
CREATE OR REPLACE FUNCTION pgfanout.log_leaf(
    captured pgfanout.captured_table, leaf pg_catalog.oid, operation pg_catalog.text)
RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres'
    SET timezone = 'UTC' SET extra_float_digits = 3 SET bytea_output = 'hex' SET lc_monetary = 'C' AS $$
DECLARE
    t pgfanout.captured_table;
    has_key bool;
BEGIN
    SELECT * INTO t FROM pgfanout.captured_table c WHERE c.id = captured.id;
    IF cardinality(t.key_columns) = 0 THEN
        -- All of the table is sent anew.
        INSERT INTO pgfanout.changelog (table_id, operation, key) VALUES (t.id, 'T', NULL);
        RETURN;
    END IF;
    SELECT count(*) = cardinality(t.key_columns) INTO has_key FROM pg_attribute a
        WHERE a.attrelid = leaf AND a.attname = ANY (t.key_columns) AND NOT a.attisdropped;
    IF NOT has_key THEN
        UPDATE pgfanout.captured_table c SET rewritten = pg_current_xact_id(), rewritten_definition = c.definition
            WHERE c.id = t.id;
        RETURN;
    END IF;
    EXECUTE format('INSERT INTO pgfanout.changelog (table_id, operation, key) SELECT %s, %L, %s FROM ONLY %s x',
        t.id, operation, pgfanout.key_expression(leaf, t.key_columns, 'x'), leaf::regclass);
END
$$;

-- Stops capturing a table that can't be any more. reason: a sentence with the remedy, for the registry.
CREATE OR REPLACE FUNCTION pgfanout.give_up(captured pgfanout.captured_table, reason pg_catalog.text)
RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE pgfanout.captured_table c SET broken = reason, registering = true WHERE c.id = captured.id;
    PERFORM pgfanout.drop_triggers(captured);
    UPDATE pgfanout.captured_table c SET registering = false WHERE c.id = captured.id;
END
$$;

-- After any DDL that may concern a captured table. Two that follow tables at once meet in the registry, and would
-- deadlock where neither DDL meets the other: the limit ends that before anybody's deadlock_timeout does.
CREATE OR REPLACE FUNCTION pgfanout.follow_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10ms' AS $$
DECLARE
    captured pgfanout.captured_table;
BEGIN
    -- Our own DDL on one table concerns no other: to look into all of them each time would take hours with thousands.
    IF current_setting('pgfanout.leaving', true) = 'on'
        OR EXISTS (SELECT FROM pgfanout.captured_table c WHERE c.registering)
    THEN
        RETURN;
    END IF;
    FOR captured IN SELECT * FROM pgfanout.concerned_tables(tg_tag) LOOP
        BEGIN
            IF pgfanout.is_unnoted(captured.relation) THEN
                PERFORM pgfanout.leave_to_publisher(captured);
            ELSE
                PERFORM pgfanout.follow_table(captured);
            END IF;
        EXCEPTION WHEN OTHERS THEN
            PERFORM pgfanout.leave_to_publisher(captured);
        END;
    END LOOP;
    PERFORM pgfanout.log_new_tables(tg_tag);
EXCEPTION WHEN OTHERS THEN
    RAISE WARNING 'pgfanout could not follow %: %', tg_tag, sqlerrm;
END
$$;

-- Leaves a table that could not be followed to the publisher, which looks into every table that is logged as altered
-- before it passes on what comes later. Where the DDL has locked the table, its triggers may not fit it any more, and
-- the application's next statement would fail: they go, and by that the publisher sees that it is to be captured and
-- copied anew. Where it has not, its columns and rows are as they were, and so the triggers still do. Waits for nobody.
-- The setting keeps its own DDL from being followed, as "registering" does, which can't be had here.
CREATE OR REPLACE FUNCTION pgfanout.leave_to_publisher(captured pgfanout.captured_table) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET pgfanout.leaving = 'on' AS $$
DECLARE
    d record;
BEGIN
    PERFORM pgfanout.log_altered(captured.id);
    FOR d IN
        SELECT o.relation, o.trigger_name FROM pgfanout.triggers_of(captured) o
        WHERE NOT o.is_clone AND EXISTS (
            SELECT FROM pg_locks l
            WHERE l.relation = o.relation::oid AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
                AND l.pid = pg_backend_pid() AND l.granted)
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', d.trigger_name, d.relation);
    END LOOP;
END
$$;

-- Logs that a table was altered: whoever reads on from before it compares the table before he goes on.
-- table_id: its number in the registry, or 0 (see log_new_tables).
CREATE OR REPLACE FUNCTION pgfanout.log_altered(table_id pg_catalog.int4) RETURNS pg_catalog.void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO pgfanout.changelog (table_id, operation) VALUES (log_altered.table_id, 'A');
    SELECT pgfanout.wake();
$$;

-- Logs, as an alteration of table 0, that there are tables which may be wanted, as they are new, or have another name or
-- form: the publisher looks for them at once, and without that within some seconds. tag: of the command. Of others' changes
-- it reads catalogs only; fails nobody.
CREATE OR REPLACE FUNCTION pgfanout.log_new_tables(tag pg_catalog.text) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE') AND EXISTS (
        SELECT FROM pg_event_trigger_ddl_commands() o JOIN pg_class c ON c.oid = o.objid
        WHERE o.classid = 'pg_class'::regclass
            AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
            AND NOT EXISTS (SELECT FROM pgfanout.captured_table t WHERE t.relation = c.oid))
    THEN
        PERFORM pgfanout.log_altered(0);
    END IF;
EXCEPTION WHEN OTHERS THEN
    NULL;
END
$$;

-- The captured tables that DDL may have changed. tag: of the command. For commands on relations those they
-- name, with their roots; for all others, which may reach tables through types, schemas or CASCADE, all.
CREATE OR REPLACE FUNCTION pgfanout.concerned_tables(tag pg_catalog.text) RETURNS SETOF pgfanout.captured_table
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.* FROM pgfanout.captured_table c
    WHERE NOT c.registering
        AND (c.broken IS NULL OR NOT EXISTS (SELECT FROM pg_class r WHERE r.oid = c.relation))
        AND CASE WHEN tag = 'CREATE TABLE' THEN EXISTS (
            SELECT FROM pg_event_trigger_ddl_commands() o
            WHERE o.classid = 'pg_class'::regclass AND c.relation IN (
                SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = o.objid
                UNION ALL SELECT a.relid FROM pg_partition_ancestors(o.objid::regclass) a))
        ELSE tag NOT IN ('CREATE TABLE AS', 'SELECT INTO') END
    ORDER BY c.id
$$;

-- Before a table is rewritten by DDL: its values may change without a trigger. Where that can't be noted at once, it is
-- told to follow_ddl, which comes when the DDL is done: by a setting, which ends with the transaction as the DDL does.
CREATE OR REPLACE FUNCTION pgfanout.note_rewrite() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10ms' AS $$
BEGIN
    PERFORM pgfanout.log_altered(noted.id) FROM pgfanout.note_rewritten(pg_event_trigger_table_rewrite_oid()) noted (id);
EXCEPTION WHEN OTHERS THEN
    PERFORM set_config('pgfanout.unnoted',
        concat_ws(' ', current_setting('pgfanout.unnoted', true), pg_event_trigger_table_rewrite_oid()), true);
END
$$;

-- Notes in the registry that a table, or the root that it is a partition of, is rewritten. Returns the ids of those that
-- are captured.
CREATE OR REPLACE FUNCTION pgfanout.note_rewritten(relation pg_catalog.oid) RETURNS SETOF pg_catalog.int4
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE pgfanout.captured_table c
        SET definition = c.definition + 1, rewritten = pg_current_xact_id(), rewritten_definition = c.definition + 1
        WHERE c.relation = note_rewritten.relation
            OR c.relation IN (SELECT a.relid FROM pg_partition_ancestors(note_rewritten.relation::regclass) a)
        RETURNING c.id
$$;

-- Whether a captured table was rewritten in this transaction and that could not be noted. Reads pg_inherits.
CREATE OR REPLACE FUNCTION pgfanout.is_unnoted(relation pg_catalog.oid) RETURNS pg_catalog.bool
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM regexp_split_to_table(current_setting('pgfanout.unnoted', true), ' ') u (relation)
        WHERE u.relation <> '' AND (u.relation::oid = is_unnoted.relation
            OR is_unnoted.relation IN (SELECT a.relid FROM pg_partition_ancestors(u.relation::oid::regclass) a)))
$$;

-- Created anew each time, since there is no CREATE OR REPLACE; ALWAYS: also in sessions in replica role.
DROP EVENT TRIGGER IF EXISTS pgfanout_follow_ddl;
CREATE EVENT TRIGGER pgfanout_follow_ddl ON ddl_command_end
    WHEN TAG IN (
        'ALTER TABLE', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'DROP TABLE', 'ALTER SCHEMA', 'DROP SCHEMA', 'ALTER TYPE', 'DROP TYPE',
        'ALTER DOMAIN', 'DROP DOMAIN', 'DROP INDEX', 'ALTER TRIGGER', 'DROP TRIGGER', 'DROP FUNCTION',
        'DROP OWNED', 'ALTER EXTENSION', 'DROP EXTENSION', 'DROP COLLATION', 'DROP OPERATOR CLASS',
        'DROP OPERATOR FAMILY')
    EXECUTE FUNCTION pgfanout.follow_ddl();
ALTER EVENT TRIGGER pgfanout_follow_ddl ENABLE ALWAYS;
DROP EVENT TRIGGER IF EXISTS pgfanout_note_rewrite;
CREATE EVENT TRIGGER pgfanout_note_rewrite ON table_rewrite EXECUTE FUNCTION pgfanout.note_rewrite();
ALTER EVENT TRIGGER pgfanout_note_rewrite ENABLE ALWAYS;
