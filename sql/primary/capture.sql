-- Capturing a table, and giving it up.

-- Captures a table, or renews its capture where something about it changed. Does nothing, and takes no
-- lock, where it is captured as asked.
--
-- Parameters: relation: the table; old_record: 'full' to log old rows too, 'key' for keys alone.
-- Returns: the table's id. A capture that had a gap (a trigger was missing or disabled, it was broken)
--   begins anew under another id, so that whoever relies on the old one sees that it ended.
-- Raises: feature_not_supported with table, reason and remedy if it can't be captured; lock_not_available
--   when lock_timeout, which the caller sets, passes. The caller tries again.
-- Locks: the table in SHARE ROW EXCLUSIVE mode until the transaction ends: it waits for every writer, so
--   that once it commits, every change is visible to later snapshots or logged.
CREATE OR REPLACE FUNCTION pgfanout.capture(relation pg_catalog.oid, old_record pg_catalog.text DEFAULT 'full')
RETURNS pg_catalog.int4
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_table pgfanout.candidate;
    captured pgfanout.captured_table;
BEGIN
    found_table := pgfanout.capturable(relation);
    SELECT * INTO captured FROM pgfanout.captured_table c WHERE c.relation = capture.relation;
    found_table := pgfanout.with_its_key(captured, found_table);
    IF pgfanout.is_current(captured, found_table, capture.old_record) THEN
        RETURN captured.id;
    END IF;
    EXECUTE format('LOCK TABLE %I.%I IN SHARE ROW EXCLUSIVE MODE', found_table.schema_name, found_table.table_name);
    -- Only now nothing about it can change; and another session may have captured it while we waited.
    found_table := pgfanout.capturable(relation);
    SELECT * INTO captured FROM pgfanout.captured_table c WHERE c.relation = capture.relation FOR UPDATE;
    IF captured.id IS NOT NULL AND (
        captured.broken IS NOT NULL OR NOT pgfanout.triggers_are_complete(captured)
        -- Rows came or went with a partition, and nobody logged them.
        OR captured.leaves <> found_table.leaves)
    THEN
        PERFORM pgfanout.release(captured.id);
        captured := NULL;
    END IF;
    found_table := pgfanout.with_its_key(captured, found_table);
    RETURN pgfanout.register(captured, found_table, capture.old_record);
END
$$;

-- What is known of a table that can be captured. relation: the table. Raises feature_not_supported if it
-- can't be, undefined_table if there is none. Reads catalogs.
CREATE OR REPLACE FUNCTION pgfanout.capturable(relation pg_catalog.oid) RETURNS pgfanout.candidate
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_table pgfanout.candidate;
BEGIN
    SELECT * INTO found_table FROM pgfanout.candidate c WHERE c.relation = capturable.relation;
    IF NOT found THEN
        RAISE undefined_table USING MESSAGE = format(
            '%s can''t be replicated: there is no such table, or it is one of the system''s or of pgfanout''s own',
            relation::regclass);
    ELSIF found_table.refusal IS NOT NULL THEN
        RAISE feature_not_supported USING MESSAGE = 'table ' || found_table.refusal;
    END IF;
    RETURN found_table;
END
$$;

-- The table with the key by which it is captured, as long as that would do, whichever came since: what the changelog
-- has and what replicas have would all have to be made anew. captured: its row or null; found_table: as it is now.
CREATE OR REPLACE FUNCTION pgfanout.with_its_key(captured pgfanout.captured_table, found_table pgfanout.candidate)
RETURNS pgfanout.candidate
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    key jsonb;
BEGIN
    SELECT k INTO key FROM jsonb_array_elements(found_table.keys) k WHERE k -> 'columns' = to_jsonb(captured.key_columns);
    IF key IS NOT NULL THEN
        found_table.key_columns := captured.key_columns;
        found_table.key_types := ARRAY(SELECT jsonb_array_elements_text(key -> 'types'));
        found_table.shape := jsonb_set(found_table.shape, '{key}', key -> 'columns');
    END IF;
    RETURN found_table;
END
$$;

-- Whether a table's capture fits the table and what is asked. captured: its row or null; found_table: the
-- table as it is now. Reads catalogs.
CREATE OR REPLACE FUNCTION pgfanout.is_current(
    captured pgfanout.captured_table, found_table pgfanout.candidate, old_record pg_catalog.text)
RETURNS pg_catalog.bool
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT captured.id IS NOT NULL AND captured.broken IS NULL
        AND captured.shape = found_table.shape
        AND captured.leaves = found_table.leaves
        AND (captured.schema_name, captured.table_name) = (found_table.schema_name, found_table.table_name)
        AND captured.old_record = old_record
        AND pgfanout.triggers_are_complete(captured)
$$;

-- Whether what names a table's rows in the changelog is something else than before: the columns of its key, or their
-- types, or what those are made of, such as the labels of an enum; all columns, where it has no key. captured: its row until now, or null; found_table: the table as it is.
CREATE OR REPLACE FUNCTION pgfanout.names_differ(captured pgfanout.captured_table, found_table pgfanout.candidate)
RETURNS pg_catalog.bool
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT captured.id IS NOT NULL AND (
        captured.key_columns <> found_table.key_columns
        OR cardinality(found_table.key_columns) = 0 AND captured.columns <> found_table.columns
        OR EXISTS (
            SELECT FROM
                jsonb_array_elements(captured.shape -> 'columns') o
                JOIN jsonb_array_elements(found_table.shape -> 'columns') n ON o -> 1 = n -> 1
            WHERE (o -> 0, o -> 2) <> (n -> 0, n -> 2)
                AND (cardinality(captured.key_columns) = 0 OR o ->> 1 = ANY (captured.key_columns))
        )
        OR captured.columns <@ found_table.columns
        AND NOT (captured.shape -> 'parts') <@ (found_table.shape -> 'parts')
        AND EXISTS (
            SELECT FROM jsonb_array_elements(captured.shape -> 'columns') o
            -- PostgreSQL's own types have lower numbers, and no such parts.
            WHERE (o ->> 2)::int8 >= 16384
                AND (cardinality(captured.key_columns) = 0 OR o ->> 1 = ANY (captured.key_columns))
        )
    )
$$;

-- Whether a table became a partition of one that is captured, which tells of its rows since. relation: its oid. Reads
-- pgfanout.captured_table, pg_inherits.
CREATE OR REPLACE FUNCTION pgfanout.is_told_by_root(relation pg_catalog.oid) RETURNS pg_catalog.bool
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM pg_partition_ancestors(relation::regclass) a JOIN pgfanout.captured_table c ON c.relation = a.relid
        WHERE a.relid <> is_told_by_root.relation AND c.broken IS NULL)
$$;

-- Writes a table's row in the registry and makes its functions and triggers fit it.
-- captured: its row until now, or null; found_table: the table as it is. Returns its id: another one where its
-- rows have other names than before, so that nobody reads what was logged under the old ones by the new ones. Where it
-- was captured before, that it was altered is logged.
-- Locks as pgfanout.create_triggers does, and as pgfanout.release for another id.
CREATE OR REPLACE FUNCTION pgfanout.register(
    captured pgfanout.captured_table, found_table pgfanout.candidate, old_record pg_catalog.text)
RETURNS pg_catalog.int4
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t pgfanout.captured_table;
BEGIN
    IF pgfanout.names_differ(captured, found_table) THEN
        PERFORM pgfanout.release(captured.id);
    END IF;
    INSERT INTO pgfanout.captured_table AS c (relation, schema_name, table_name, partitioned, leaves, columns,
            key_columns, key_types, key_is_row, old_record, shape, registering)
        VALUES (found_table.relation, found_table.schema_name, found_table.table_name,
            found_table.relkind = 'p', found_table.leaves, found_table.columns,
            found_table.key_columns, found_table.key_types, cardinality(found_table.key_columns) > 1,
            register.old_record, found_table.shape, true)
        ON CONFLICT (relation) DO UPDATE SET
            (schema_name, table_name, leaves, columns, key_columns, key_types, key_is_row, old_record, shape, registering)
            = (excluded.schema_name, excluded.table_name, excluded.leaves, excluded.columns,
                excluded.key_columns, excluded.key_types, excluded.key_is_row, excluded.old_record,
                excluded.shape, true),
            former_columns = ARRAY(
                SELECT unnest(c.former_columns || c.columns) EXCEPT SELECT unnest(excluded.columns)),
            definition = c.definition + 1,
            (rewritten, rewritten_definition) = (
                SELECT
                    CASE WHEN r.now THEN pg_current_xact_id() ELSE c.rewritten END,
                    CASE WHEN r.now THEN c.definition + 1 ELSE c.rewritten_definition END
                FROM (
                    SELECT
                        -- Rows whose types lost a label or have other attributes changed though nobody wrote them.
                        c.columns <@ excluded.columns
                            AND NOT (c.shape -> 'parts') <@ (excluded.shape -> 'parts')
                        -- A column under the name of another, or under another name, looks like that one on a replica.
                        OR c.former_columns && excluded.columns
                        OR EXISTS (
                            SELECT FROM
                                jsonb_array_elements(c.shape -> 'columns') o,
                                jsonb_array_elements(excluded.shape -> 'columns') n
                            WHERE (o -> 0 = n -> 0) <> (o -> 1 = n -> 1)) AS now
                ) r
            )
        RETURNING * INTO t;
    PERFORM pgfanout.create_trigger_functions(t);
    PERFORM pgfanout.create_triggers(t);
    UPDATE pgfanout.captured_table c SET registering = false WHERE c.id = t.id;
    IF t.partitioned THEN
        -- Tables of their own before, which could not be captured as such any more.
        DELETE FROM pgfanout.captured_table c
            WHERE c.broken IS NOT NULL AND pgfanout.is_told_by_root(c.relation);
    END IF;
    IF captured.id IS NOT NULL THEN
        PERFORM pgfanout.log_altered(t.id);
    END IF;
    RETURN t.id;
END
$$;

-- Gives up a table: its triggers, functions and row go; its entries in the changelog stay.
-- Returns whether there was such a table. Locks it in ACCESS EXCLUSIVE mode.
CREATE OR REPLACE FUNCTION pgfanout.release(table_id pg_catalog.int4) RETURNS pg_catalog.bool
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t pgfanout.captured_table;
BEGIN
    DELETE FROM pgfanout.captured_table c WHERE c.id = table_id RETURNING * INTO t;
    IF NOT found THEN
        RETURN false;
    END IF;
    PERFORM pgfanout.drop_triggers(t);
    RETURN true;
END
$$;

-- Makes all generated functions anew, after the generator changed. Locks as pgfanout.create_triggers does.
CREATE OR REPLACE FUNCTION pgfanout.renew() RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t pgfanout.captured_table;
BEGIN
    FOR t IN SELECT * FROM pgfanout.captured_table c WHERE c.broken IS NULL ORDER BY c.id LOOP
        UPDATE pgfanout.captured_table c SET registering = true WHERE c.id = t.id;
        PERFORM pgfanout.create_trigger_functions(t);
        PERFORM pgfanout.create_triggers(t);
        UPDATE pgfanout.captured_table c SET registering = false WHERE c.id = t.id;
    END LOOP;
END
$$;
