-- What pgfanout keeps on the primary. Everything is owned by the installing superuser; nobody else has
-- a right on any of it, and nobody else needs one: the triggers run as their owner.
CREATE SCHEMA pgfanout;

-- Which database of which cluster this is. A dump takes the schema along to another one, where its
-- transaction ids, oids and positions mean nothing.
CREATE FUNCTION pgfanout.place() RETURNS pg_catalog.text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT s.system_identifier::text || '/' || d.oid::text
    FROM pg_control_system() s CROSS JOIN pg_database d
    WHERE d.datname = current_database()
$$;

-- One row: which version is installed, and which installation it is.
CREATE TABLE pgfanout.installation (
    only_row pg_catalog.bool PRIMARY KEY DEFAULT true
        CONSTRAINT there_is_one_installation CHECK (only_row),
    version pg_catalog.int4 NOT NULL,
    -- Digest of the functions' source: where it is another, they are created again.
    functions pg_catalog.text,
    -- Another epoch is another history: positions of one mean nothing in the other.
    epoch pg_catalog.uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    -- Where it was installed.
    place pg_catalog.text NOT NULL DEFAULT pgfanout.place(),
    -- Renewed by each publisher that begins: batches of one term are of one history. It counts only as
    -- long as the server runs in which it began: a server that was put back to a backup was started.
    term pg_catalog.uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    term_server pg_catalog.timestamptz,
    installed_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    -- False where prepared transactions are allowed, which NOTIFY would make fail: capture is silent.
    notify pg_catalog.bool NOT NULL,
    -- Entries of the changelog with a lower xid are gone.
    trimmed_before pg_catalog.xid8 NOT NULL DEFAULT '0'
);

-- The registry: one row for each table whose changes are logged.
CREATE TABLE pgfanout.captured_table (
    id pg_catalog.int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation pg_catalog.oid NOT NULL UNIQUE,
    schema_name pg_catalog.text NOT NULL,
    table_name pg_catalog.text NOT NULL,
    -- A partition root: its triggers are row triggers, and it has leaves.
    partitioned pg_catalog.bool NOT NULL,
    leaves pg_catalog.oid[] NOT NULL,
    -- Live columns that are not generated, in the order of their numbers.
    columns pg_catalog.text[] NOT NULL,
    -- Names that columns had and do not have any more: on a replica they may still stand for those.
    former_columns pg_catalog.text[] NOT NULL DEFAULT '{}',
    -- The columns whose values name a row, in the order of the changelog's key, and their types as SQL; none where
    -- rows have no name.
    key_columns pg_catalog.text[] NOT NULL,
    key_types pg_catalog.text[] NOT NULL,
    key_is_row pg_catalog.bool NOT NULL
        CONSTRAINT several_columns_are_a_row CHECK (key_is_row = (pg_catalog.cardinality(key_columns) > 1)),
    old_record pg_catalog.text NOT NULL
        CONSTRAINT old_record_is_full_or_key CHECK (old_record IN ('full', 'key')),
    -- Raised whenever anything above or the type of a column changed: readers cache by (id, definition).
    definition pg_catalog.int8 NOT NULL DEFAULT 1,
    -- What the generated functions were made from; compared to see whether they still fit.
    shape pg_catalog.jsonb NOT NULL,
    -- The last transaction that changed rows without a trigger's knowledge (a rewriting ALTER TABLE, a
    -- dropped partition, a renamed enum value): a delta that holds it needs the table copied anew.
    rewritten pg_catalog.xid8,
    -- The definition that it had since then: whoever compared the table before has to copy it anew, also if his
    -- position passed that transaction meanwhile, with changes of other tables.
    rewritten_definition pg_catalog.int8,
    -- Why the table is no longer captured, with the remedy; null while it is captured.
    broken pg_catalog.text,
    -- True only inside the transaction that is creating the triggers: keeps its own DDL from recursing.
    registering pg_catalog.bool NOT NULL DEFAULT false
);

-- Which segment of the changelog is written. A sequence is read without a snapshot and costs writers no lock.
-- Nothing depends on where an entry is: each segment is read always.
CREATE SEQUENCE pgfanout.segment MINVALUE 0 MAXVALUE 2 START 0;
SELECT pg_catalog.setval('pgfanout.segment', 0);

-- Append-only: which keys changed in which transaction. The order of its rows carries no meaning. It lies in
-- segments, which are truncated one by one: rows that were deleted would stay as long as any transaction on
-- the primary may see them.
CREATE TABLE pgfanout.changelog (
    -- The top-level transaction, also inside savepoints.
    xid pg_catalog.xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    table_id pg_catalog.int4 NOT NULL,
    -- I, D: a row with this key came, went. U: a row with this key changed. T: TRUNCATE, key null; of a table
    -- without a key also: a row that is too large to be logged. A: the table was altered, key null.
    operation pg_catalog."char" NOT NULL,
    -- The key's text in the session that pgfanout pins; of several columns the text of a row of their texts; without
    -- a key the text of the whole row.
    key pg_catalog.text COLLATE pg_catalog."C",
    -- JSON text of the old row, for U and D where old_record is full.
    old pg_catalog.text,
    logged_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    segment pg_catalog.int8 NOT NULL DEFAULT pg_catalog.pg_sequence_last_value('pgfanout.segment')
) PARTITION BY LIST (segment);
CREATE INDEX changelog_xid ON pgfanout.changelog (xid);
CREATE TABLE pgfanout.changelog_0 PARTITION OF pgfanout.changelog FOR VALUES IN (0);
CREATE TABLE pgfanout.changelog_1 PARTITION OF pgfanout.changelog FOR VALUES IN (1);
CREATE TABLE pgfanout.changelog_2 PARTITION OF pgfanout.changelog FOR VALUES IN (2);

-- A flag that is read without a snapshot, so never stale: 1 while the publisher waits for a NOTIFY.
CREATE SEQUENCE pgfanout.asleep MINVALUE 0 MAXVALUE 1 START 0;

-- Batches that were cut, by number and name.
CREATE TABLE pgfanout.batch (
    number pg_catalog.int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Tells this batch from one of the same number in a restored or replaced primary.
    token pg_catalog.uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    -- Null: published to all; otherwise the replica that catches up, or copies, which has no start.
    replica pg_catalog.text,
    from_snapshot pg_catalog.pg_snapshot,
    to_snapshot pg_catalog.pg_snapshot NOT NULL,
    published pg_catalog.bool NOT NULL DEFAULT false,
    cut_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
-- The last one for all is asked for all the time, and may lie behind any number of others.
CREATE INDEX batch_for_all ON pgfanout.batch (number) WHERE replica IS NULL;

-- What each replica last reported of itself.
CREATE TABLE pgfanout.replica (
    name pg_catalog.text PRIMARY KEY,
    -- The oldest snapshot it still needs the changelog from.
    "position" pg_catalog.pg_snapshot NOT NULL,
    number pg_catalog.int8,
    token pg_catalog.uuid,
    state pg_catalog.text,
    detail pg_catalog.jsonb,
    reported_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

REVOKE ALL ON SCHEMA pgfanout FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA pgfanout FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA pgfanout FROM PUBLIC;
