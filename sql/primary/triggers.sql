-- The trigger functions of one table, generated from its row in the registry.

-- Creates or replaces one trigger function. Parameters: its name, the SET clause it needs, its body.
-- EXECUTE is revoked: triggers need no such right when they fire, and nobody else shall attach it. But
-- whoever creates a partition must have it for the row trigger that the partition inherits; to name the
-- function in a trigger of his own he would need a right on the schema.
CREATE OR REPLACE FUNCTION pgfanout.create_trigger_function(
    name pg_catalog.text, pins pg_catalog.text, body pg_catalog.text)
RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION pgfanout.%I() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER%s AS %L',
        name, pins, format(E'BEGIN\n%s\nRETURN NULL;\nEND', body));
    EXECUTE format('REVOKE ALL ON FUNCTION pgfanout.%I() FROM PUBLIC', name);
    IF name LIKE 'row\_%' THEN
        EXECUTE format('GRANT EXECUTE ON FUNCTION pgfanout.%I() TO PUBLIC', name);
    END IF;
END
$$;

-- The statement that logs in the segment of the changelog that is written: to have PostgreSQL find the segment takes a
-- fifth of what capture costs. Parameters: the columns that are given beside the segment; SQL of their values, with where
-- they come from; the same for very many rows, and SQL of whether there are so many. To ask that is a statement more, which
-- a single row would feel: it is asked only where the client's statement has taken a while.
CREATE OR REPLACE FUNCTION pgfanout.log_in_segment(
    columns pg_catalog.text, given pg_catalog.text,
    many_columns pg_catalog.text DEFAULT NULL, many pg_catalog.text DEFAULT NULL, are_many pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT concat(
        -- From the fourth on they are for very many rows.
        E'DECLARE\nsegment pg_catalog.int8 :='
        ' pg_catalog.pg_sequence_last_value(''pgfanout.segment''::pg_catalog.regclass)',
        CASE WHEN many IS NOT NULL THEN
            E'\nOPERATOR(pg_catalog.+) CASE WHEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-)'
            ' pg_catalog.statement_timestamp() OPERATOR(pg_catalog.>) ''2 ms''::pg_catalog.interval THEN 3 ELSE 0 END'
        END,
        E';\nBEGIN\n',
        CASE WHEN many IS NOT NULL THEN format(
            E'IF segment OPERATOR(pg_catalog.>) 2 THEN\nIF NOT %s THEN\nsegment := segment OPERATOR(pg_catalog.-) 3;\n'
            'END IF;\nEND IF;\n', are_many)
        END,
        string_agg(
            format(
                E'%s\nINSERT INTO pgfanout.changelog_%s (segment, %s)\nSELECT %s, %s;\n',
                CASE WHEN n = 0 THEN 'IF segment OPERATOR(pg_catalog.=) 0 THEN'
                    WHEN n = last THEN 'ELSE'
                    ELSE format('ELSIF segment OPERATOR(pg_catalog.=) %s THEN', n)
                END,
                n % 3, CASE WHEN n < 3 THEN columns ELSE many_columns END,
                n % 3, CASE WHEN n < 3 THEN given ELSE many END),
            '' ORDER BY n),
        E'END IF;\nEND;')
    FROM (SELECT CASE WHEN many IS NULL THEN 2 ELSE 5 END) l (last) CROSS JOIN LATERAL generate_series(0, l.last) n
$$;

-- The statement that logs changes. Parameters: the table's id; SQL of operation and key; the rows they come
-- from, with their alias (empty: one); old_row: the alias or variable of the old row, or null for none. Of a
-- statement that changes very many rows only keys are logged, since the old rows would cost it more than all the rest, and
-- a hundred in an entry.
CREATE OR REPLACE FUNCTION pgfanout.log_statement(
    id pg_catalog.int4, relation pg_catalog.oid, operation pg_catalog.text, key pg_catalog.text,
    from_rows pg_catalog.text, old_row pg_catalog.text)
RETURNS pg_catalog.text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- More than readers take in one go: where they do, each key has an entry of its own.
    are_many text := CASE WHEN from_rows <> ''
        THEN format('EXISTS (SELECT FROM %s OFFSET %s)', from_rows, CASE WHEN old_row IS NULL THEN 4000 ELSE 10000 END) END;
    small text;
    image text := 'NULL';
    source text := CASE WHEN from_rows <> '' THEN ' FROM ' || from_rows ELSE '' END;
BEGIN
    IF old_row IS NOT NULL THEN
        -- Of larger ones readers take nothing: see delta_keys.sql.
        small := pgfanout.is_small(relation, old_row, 16384);
        -- r.* and not r: a column may be called r.
        image := 'pg_catalog.row_to_json(r.*)::pg_catalog.text';
        IF small IS NOT NULL THEN
            image := format('CASE WHEN %s THEN %s END', small, image);
        END IF;
        SELECT source || CASE WHEN source = '' THEN ' FROM' ELSE ' CROSS JOIN LATERAL' END
                || format(E'\n(SELECT %s) r', string_agg(
                    format(E'%s AS %I', pgfanout.value_expression(
                        format('%s.%I', old_row, a.attname), a.atttypid, 16384), a.attname),
                    E',\n' ORDER BY a.attnum))
            INTO source
            FROM pg_attribute a
            WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
    END IF;
    RETURN pgfanout.log_in_segment(
        'table_id, operation, key, old',
        format('%s, %L, %s, %s%s', id, operation, key, image, source),
        'table_id, operation, keys',
        CASE WHEN from_rows <> '' THEN format(
            E'%s, %L, pg_catalog.array_agg(m.key)\nFROM (\nSELECT %s AS key,'
            ' pg_catalog.row_number() OVER () OPERATOR(pg_catalog./) 100 AS n\nFROM %s\n) m GROUP BY m.n',
            id, operation, key, from_rows)
        END,
        are_many);
END
$$;

-- The statement that logs whole rows, for a table without a key; one that is too large stands for all of the table,
-- which is read anew. Parameters: the table's id; SQL that selects operation and key.
CREATE OR REPLACE FUNCTION pgfanout.log_rows_statement(id pg_catalog.int4, from_rows pg_catalog.text)
RETURNS pg_catalog.text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    -- The fence has each row printed once.
    SELECT pgfanout.log_in_segment('table_id, operation, key', format(
        E'%s, CASE WHEN l.key IS NULL THEN ''T''::pg_catalog."char" ELSE l.operation END, l.key'
        '\nFROM (%s OFFSET 0) l (operation, key)', id, from_rows))
$$;

-- Creates or replaces all trigger functions of a table without a key. t: its row. Locks nothing of the table's.
CREATE OR REPLACE FUNCTION pgfanout.create_row_trigger_functions(t pgfanout.captured_table, wake pg_catalog.text)
RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pins constant text := pgfanout.pins(t.relation, t.columns);
    x constant text := pgfanout.row_expression(t.relation, 'x');
    came constant text := 'SELECT ''I''::pg_catalog."char", ';
    went constant text := 'SELECT ''D''::pg_catalog."char", ';
    old_row constant text := pgfanout.log_rows_statement(
        t.id, went || pgfanout.row_expression(t.relation, 'old'));
    new_row constant text := pgfanout.log_rows_statement(
        t.id, came || pgfanout.row_expression(t.relation, 'new'));
BEGIN
    IF t.partitioned THEN
        PERFORM pgfanout.create_trigger_function('row_' || t.id, pins, format(
            E'IF tg_op OPERATOR(pg_catalog.<>) ''INSERT'' THEN\n%s\nEND IF;\n'
            'IF tg_op OPERATOR(pg_catalog.<>) ''DELETE'' THEN\n%s\nEND IF;', old_row, new_row) || wake);
        -- One leaf is emptied: the rest of the table stays, and all of it is read anew.
        PERFORM pgfanout.create_trigger_function('truncate_leaf_' || t.id, '',
            pgfanout.log_statement(t.id, t.relation, 'T', 'NULL', '', NULL) || wake);
    ELSE
        PERFORM pgfanout.create_trigger_function('insert_' || t.id, pins,
            pgfanout.log_rows_statement(t.id, came || x || ' FROM new_rows x') || wake);
        PERFORM pgfanout.create_trigger_function('delete_' || t.id, pins,
            pgfanout.log_rows_statement(t.id, went || x || ' FROM old_rows x') || wake);
        PERFORM pgfanout.create_trigger_function('update_row_' || t.id, pins, pgfanout.log_rows_statement(
            t.id, format('%s FROM old_rows x UNION ALL %s FROM new_rows x', went || x, came || x)) || wake);
    END IF;
END
$$;

-- Creates or replaces all trigger functions of a table. t: its row. Locks nothing of the table's.
CREATE OR REPLACE FUNCTION pgfanout.create_trigger_functions(t pgfanout.captured_table) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    full_record constant bool := t.old_record = 'full';
    pins constant text := pgfanout.pins(t.relation, t.key_columns);
    x constant text := pgfanout.key_expression(t.relation, t.key_columns, 'x');
    old_key constant text := pgfanout.key_expression(t.relation, t.key_columns, 'old');
    new_key constant text := pgfanout.key_expression(t.relation, t.key_columns, 'new');
    -- An entry first and the flag read then: the publisher relies on this order to sleep. The function, unlike
    -- a query of the sequence, needs no executor: that was a tenth of what capture costs.
    wake constant text := E'\nIF found AND pg_catalog.pg_sequence_last_value(''pgfanout.asleep''::pg_catalog.regclass)'
        ' OPERATOR(pg_catalog.=) 1 THEN'
        ' PERFORM pgfanout.wake(); END IF;';
    -- By image, not by the type's equality: 1.0 and 1.00 are two texts of one key.
    changed_key text;
BEGIN
    SELECT format(
            E'IF pg_catalog.record_image_ne(ROW(%s), ROW(%s)) THEN\n%s\n%s\nEND IF;',
            string_agg(format('old.%I', c), ', '), string_agg(format('new.%I', c), ', '),
            pgfanout.log_statement(t.id, t.relation, 'D', old_key, '', NULL),
            pgfanout.log_statement(t.id, t.relation, 'I', new_key, '', NULL))
        INTO changed_key FROM unnest(t.key_columns) c;
    IF cardinality(t.key_columns) = 0 THEN
        PERFORM pgfanout.create_row_trigger_functions(t, wake);
    ELSIF t.partitioned THEN
        PERFORM pgfanout.create_trigger_function('row_' || t.id, pins, format(
            E'IF tg_op OPERATOR(pg_catalog.=) ''INSERT'' THEN\n%s\nELSIF tg_op OPERATOR(pg_catalog.=) ''DELETE'' THEN\n%s\nELSE\n%s\n%s\nEND IF;',
            pgfanout.log_statement(t.id, t.relation, 'I', new_key, '', NULL),
            pgfanout.log_statement(t.id, t.relation, 'D', old_key, '', CASE WHEN full_record THEN 'old' END),
            CASE WHEN full_record THEN pgfanout.log_statement(t.id, t.relation, 'U', old_key, '', 'old')
                ELSE pgfanout.log_statement(t.id, t.relation, 'U', new_key, '', NULL) END,
            changed_key) || wake);
        -- One leaf is emptied: log its keys. Nothing to do where the newest entry of this transaction is a
        -- TRUNCATE of the whole table: then either this is a part of it, or nothing came since.
        PERFORM pgfanout.create_trigger_function('truncate_leaf_' || t.id, pins, format(
            E'IF (SELECT c.operation OPERATOR(pg_catalog.=) ''T'' FROM pgfanout.changelog c'
            ' WHERE c.xid OPERATOR(pg_catalog.=) pg_catalog.pg_current_xact_id()'
            ' AND c.table_id OPERATOR(pg_catalog.=) %1$s'
            ' ORDER BY c.cmin::pg_catalog.text::pg_catalog.int8 DESC LIMIT 1) THEN RETURN NULL; END IF;\n'
            'EXECUTE pg_catalog.format(%2$L, tg_table_schema, tg_table_name);',
            t.id, format('INSERT INTO pgfanout.changelog (table_id, operation, key) SELECT %s, ''D'', %s FROM ONLY %%I.%%I x',
                t.id, replace(x, '%', '%%'))) || replace(wake, 'IF found AND', 'IF'));
    ELSE
        PERFORM pgfanout.create_trigger_function('insert_' || t.id, pins,
            pgfanout.log_statement(t.id, t.relation, 'I', x, 'new_rows x', NULL) || wake);
        PERFORM pgfanout.create_trigger_function('delete_' || t.id, pins,
            pgfanout.log_statement(t.id, t.relation, 'D', x, 'old_rows x', CASE WHEN full_record THEN 'x' END) || wake);
        -- Two names for two kinds of trigger: see pgfanout.trigger_definitions.
        PERFORM pgfanout.create_trigger_function(
            CASE WHEN full_record THEN 'update_full_' ELSE 'update_key_' END || t.id, pins,
            CASE WHEN full_record THEN pgfanout.log_statement(t.id, t.relation, 'U', x, 'old_rows x', 'x')
                ELSE pgfanout.log_statement(t.id, t.relation, 'U', x, 'new_rows x', NULL) END || wake);
        PERFORM pgfanout.create_trigger_function('changed_key_' || t.id, pins, changed_key);
    END IF;
    PERFORM pgfanout.create_trigger_function('truncate_' || t.id, '',
        pgfanout.log_statement(t.id, t.relation, 'T', 'NULL', '', NULL) || wake);
END
$$;

-- The triggers that a captured table has: trigger's name, function's name, and the words between them.
-- changed_key has no WHEN clause: one that names key columns makes ALTER COLUMN TYPE and DROP COLUMN of
-- them fail, and the call costs about as much as the condition.
-- TRUNCATE is logged before it happens, so that the triggers of leaves see the entry of their root.
CREATE OR REPLACE FUNCTION pgfanout.trigger_definitions(t pgfanout.captured_table)
RETURNS TABLE (trigger_name pg_catalog.text, function_name pg_catalog.text, events pg_catalog.text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'pgfanout_' || kind, f || '_' || t.id, words
    FROM (VALUES
        (true, 'row', 'row', 'AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW'),
        (true, 'truncate', 'truncate', 'BEFORE TRUNCATE ON %s FOR EACH STATEMENT'),
        (false, 'truncate', 'truncate', 'BEFORE TRUNCATE ON %s FOR EACH STATEMENT'),
        (false, 'insert', 'insert', 'AFTER INSERT ON %s REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT'),
        (false, 'delete', 'delete', 'AFTER DELETE ON %s REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT'),
        (false, 'changed_key', 'changed_key', 'AFTER UPDATE ON %s FOR EACH ROW'),
        (false, 'update',
            CASE WHEN cardinality(t.key_columns) = 0 THEN 'update_row'
                WHEN t.old_record = 'full' THEN 'update_full' ELSE 'update_key' END,
            format('AFTER UPDATE ON %%s REFERENCING %s FOR EACH STATEMENT',
                CASE WHEN cardinality(t.key_columns) = 0 THEN 'OLD TABLE AS old_rows NEW TABLE AS new_rows'
                    WHEN t.old_record = 'full' THEN 'OLD TABLE AS old_rows' ELSE 'NEW TABLE AS new_rows' END))
    ) v (partitioned, kind, f, words)
    WHERE v.partitioned = t.partitioned AND (v.kind <> 'changed_key' OR cardinality(t.key_columns) > 0)
$$;

-- A partitioned table and its partitions on all levels, as pg_partition_tree tells them, but without waiting for whoever
-- has locked one. root: the table. Reads pg_inherits and pg_class.
CREATE OR REPLACE FUNCTION pgfanout.partition_tree(root pg_catalog.oid)
RETURNS TABLE (relid pg_catalog.oid, isleaf pg_catalog.bool)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE member (oid) AS (
        SELECT root
        UNION ALL
        SELECT i.inhrelid FROM member m JOIN pg_inherits i ON i.inhparent = m.oid
        -- DETACH ... CONCURRENTLY came with PostgreSQL 14: the column is not there before.
        WHERE (to_jsonb(i) ->> 'inhdetachpending')::bool IS NOT TRUE
    )
    SELECT c.oid, c.relkind <> 'p' FROM member m JOIN pg_class c ON c.oid = m.oid
$$;

-- Whether every trigger of a captured table is there and fires always, on the table and on its leaves.
-- Reads pg_trigger, pg_proc and pgfanout.partition_tree.
CREATE OR REPLACE FUNCTION pgfanout.triggers_are_complete(t pgfanout.captured_table) RETURNS pg_catalog.bool
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (
        SELECT FROM (
            SELECT t.relation, d.function_name FROM pgfanout.trigger_definitions(t) d
            UNION ALL
            SELECT p.relid, f || t.id FROM pgfanout.partition_tree(t.relation) p, unnest('{row_,truncate_leaf_}'::text[]) f
            WHERE t.partitioned AND p.relid <> t.relation AND (p.isleaf OR f = 'row_')
        ) expected
        WHERE NOT EXISTS (
            SELECT FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
            WHERE g.tgrelid = expected.relation AND g.tgenabled = 'A' AND p.proname = expected.function_name
                AND p.pronamespace = 'pgfanout'::regnamespace
        )
    )
$$;

-- The captured tables of which changes may be missing: a trigger of ours is disabled or gone. For status, and for who
-- reads the view pgfanout_status.captured_tables: runs as its owner. One look at all triggers tells which tables without
-- partitions may be meant, so that only those are looked into: with thousands of tables, that would take seconds.
-- Reads pgfanout.captured_table, and as pgfanout.triggers_are_complete does.
CREATE OR REPLACE FUNCTION pgfanout.gaps() RETURNS TABLE (id pg_catalog.int4)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.id FROM pgfanout.captured_table t
    WHERE t.broken IS NULL AND CASE
        WHEN t.partitioned OR t.id IN (
            SELECT substring(p.proname FROM '_([0-9]+)$')::int4
            FROM pg_proc p
            WHERE p.pronamespace = 'pgfanout'::regnamespace AND p.prorettype = 'trigger'::regtype
                AND NOT EXISTS (SELECT FROM pg_trigger g WHERE g.tgfoid = p.oid AND g.tgenabled = 'A')
        )
        THEN NOT pgfanout.triggers_are_complete(t)
        ELSE false
    END
$$;

-- The triggers of ours that belong to a captured table: where, name, function, whether it always fires, and
-- whether it should be dropped: it is on no table of t any more, or of another kind. Clones are left out.
CREATE OR REPLACE FUNCTION pgfanout.triggers_of(t pgfanout.captured_table)
RETURNS TABLE (relation pg_catalog.regclass, trigger_name pg_catalog.text, function_name pg_catalog.text,
    always pg_catalog.bool, is_clone pg_catalog.bool, is_stale pg_catalog.bool)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT g.tgrelid::regclass, g.tgname::text, p.proname::text, g.tgenabled = 'A', g.tgparentid <> 0,
        CASE WHEN g.tgrelid = t.relation
            THEN p.proname NOT IN (SELECT d.function_name FROM pgfanout.trigger_definitions(t) d)
            ELSE NOT t.partitioned OR g.tgrelid NOT IN (
                SELECT l.relid FROM pgfanout.partition_tree(t.relation) l WHERE l.isleaf OR g.tgparentid <> 0)
        END
    FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
    WHERE p.pronamespace = 'pgfanout'::regnamespace AND p.proname ~ ('_' || t.id || '$')
$$;

-- Makes a table's triggers complete and always firing; those that are so stay. t: its row.
-- Locks the table in SHARE ROW EXCLUSIVE mode, as CREATE TRIGGER does, if anything is missing, and in
-- ACCESS EXCLUSIVE mode if a trigger of another kind has to go.
CREATE OR REPLACE FUNCTION pgfanout.create_triggers(t pgfanout.captured_table) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d record;
BEGIN
    FOR d IN SELECT * FROM pgfanout.triggers_of(t) o WHERE o.is_stale AND NOT o.is_clone LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', d.trigger_name, d.relation);
    END LOOP;
    FOR d IN
        SELECT w.trigger_name, w.function_name, w.events, t.relation::regclass AS here
        FROM pgfanout.trigger_definitions(t) w
        UNION ALL
        SELECT 'pgfanout_truncate_leaf', 'truncate_leaf_' || t.id, 'BEFORE TRUNCATE ON %s FOR EACH STATEMENT', p.relid::regclass
        FROM pgfanout.partition_tree(t.relation) p
        WHERE t.partitioned AND p.isleaf AND p.relid <> t.relation
    LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM pgfanout.triggers_of(t) o WHERE o.relation = d.here AND o.function_name = d.function_name);
        EXECUTE format('CREATE TRIGGER %I ' || d.events || ' EXECUTE FUNCTION pgfanout.%I()',
            d.trigger_name, d.here, d.function_name);
    END LOOP;
    -- Sessions in the replica role change rows too.
    FOR d IN SELECT * FROM pgfanout.triggers_of(t) o WHERE NOT o.always LOOP
        EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', d.relation, d.trigger_name);
    END LOOP;
END
$$;

-- Drops the triggers and trigger functions of a captured table. t: its row, whose table may be gone.
-- Locks each table that has such a trigger in ACCESS EXCLUSIVE mode.
CREATE OR REPLACE FUNCTION pgfanout.drop_triggers(t pgfanout.captured_table) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    d record;
BEGIN
    -- Clones go with the trigger of their root.
    FOR d IN
        SELECT g.tgrelid::regclass AS here, g.tgname FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
        WHERE p.pronamespace = 'pgfanout'::regnamespace AND p.proname ~ ('_' || t.id || '$') AND g.tgparentid = 0
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', d.tgname, d.here);
    END LOOP;
    FOR d IN
        SELECT p.oid::regprocedure AS name FROM pg_proc p
        WHERE p.pronamespace = 'pgfanout'::regnamespace AND p.prorettype = 'trigger'::regtype
            AND p.proname ~ ('_' || t.id || '$')
    LOOP
        EXECUTE format('DROP FUNCTION %s', d.name);
    END LOOP;
END
$$;
