-- What pgfanout keeps on a replica. Run in one transaction when it changed; doing it again is harmless.
CREATE SCHEMA IF NOT EXISTS pgfanout;

-- The version of what follows; a newer one is refused.
CREATE TABLE IF NOT EXISTS pgfanout.replica_installation (
    singleton boolean PRIMARY KEY DEFAULT true CONSTRAINT there_is_one_installation CHECK (singleton),
    version integer NOT NULL,
    -- Digest of what was run to make all this: where it is another, it is run again.
    source text
);
ALTER TABLE pgfanout.replica_installation ADD COLUMN IF NOT EXISTS source text;

-- Where the replica stands, written in the transaction that brings it there. One row; its key is what each
-- batch changes: by a key that stayed one would come to it through all the versions that somebody who reads on
-- this replica for hours may still see.
CREATE TABLE IF NOT EXISTS pgfanout.position (
    -- The installation on the primary that it follows.
    epoch uuid NOT NULL,
    -- The moment of the primary's history at which all tables are that have no snapshot of their own.
    snapshot pg_snapshot NOT NULL,
    -- The name of the batch that brought it there, and the publisher's term at that time; empty: none.
    number bigint PRIMARY KEY,
    token uuid NOT NULL,
    term text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The tables that are replicated here.
CREATE TABLE IF NOT EXISTS pgfanout.replicated_table (
    -- Its number in pgfanout.captured_table on the primary.
    id integer PRIMARY KEY,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    columns text[] NOT NULL,
    key_columns text[] NOT NULL,
    -- The definition on the primary that it was checked against.
    definition bigint NOT NULL,
    -- Whether pgfanout made it, and so has to make its secondary indexes.
    created boolean NOT NULL,
    -- Where it stands, if not at the position: it is being copied, about to join, or set aside.
    snapshot pg_snapshot,
    -- The last moment of the primary's history that was noted for it while it stands apart, by name.
    number bigint,
    token uuid,
    -- The token of the moment at which its copy began: tells one copy from another.
    copy uuid,
    -- Whether it is being copied.
    copying boolean NOT NULL,
    -- What the copy started with, for its progress.
    rows_expected bigint NOT NULL DEFAULT 0,
    bytes_expected bigint NOT NULL DEFAULT 0,
    copy_started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT a_table_being_copied_has_a_snapshot CHECK (snapshot IS NOT NULL OR NOT copying),
    CONSTRAINT a_table_apart_has_a_name CHECK (snapshot IS NULL OR (number IS NOT NULL AND token IS NOT NULL))
);

-- The pieces in which tables are copied, by key: after "after", up to "until", as texts of rows; NULL is
-- the table's beginning or end. Noted when planned, so that a copy goes on where it was interrupted.
CREATE TABLE IF NOT EXISTS pgfanout.copy_chunk (
    table_id integer NOT NULL REFERENCES pgfanout.replicated_table ON UPDATE CASCADE ON DELETE CASCADE,
    -- The copy it is of: what an earlier one left behind, or another process, does not count.
    copy uuid NOT NULL,
    number integer NOT NULL,
    "after" text,
    "until" text,
    -- What was copied; NULL as long as it was not.
    row_count bigint,
    byte_count bigint,
    -- When it was taken up and when its copy was done, for the rate.
    planned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    copied_at timestamptz,
    PRIMARY KEY (table_id, copy, number)
);

-- The tables that are set aside, because the replica failed on them. Those that are replicated here have a
-- snapshot of their own: where they were left.
CREATE TABLE IF NOT EXISTS pgfanout.isolated_table (
    -- As that of pgfanout.replicated_table, which need not have it: a table may not fit from the beginning.
    id integer PRIMARY KEY,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    -- What is wrong, with the remedy.
    cause text NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What came of comparing tables with the primary's, when that was last done.
CREATE TABLE IF NOT EXISTS pgfanout.verified_table (
    id integer PRIMARY KEY REFERENCES pgfanout.replicated_table ON UPDATE CASCADE ON DELETE CASCADE,
    -- What was found before a copy began says nothing of the table any more.
    verified_at timestamptz NOT NULL,
    rows bigint NOT NULL,
    differences bigint NOT NULL,
    -- Why rows were not proved to be right or wrong; NULL if all were.
    unproved text
);

-- The tables whose rows are all pgfanout's own, also of such as left because the primary dropped or renamed them: where
-- the name comes back, they are in nobody's way. By their oids here, as another one of the name may be somebody's.
CREATE TABLE IF NOT EXISTS pgfanout.filled_table (
    schema_name text NOT NULL,
    table_name text NOT NULL,
    here oid NOT NULL,
    -- Its oid on the primary: tells a table that left from one that was taken out of the configuration.
    there oid NOT NULL,
    -- As it was when it was compared with the primary's: see pgfanout.form.
    kept text[] NOT NULL,
    types text[] NOT NULL,
    -- What of its columns, and of what hangs on them, pgfanout made: see pgfanout.attached.
    made text[] NOT NULL DEFAULT '{}',
    -- The oid of this table: a dump takes it all to where oids mean nothing.
    place oid NOT NULL,
    PRIMARY KEY (schema_name, table_name)
);
ALTER TABLE pgfanout.filled_table ADD COLUMN IF NOT EXISTS made text[] NOT NULL DEFAULT '{}';

-- What a table that is replicated here is, in what concerns its rows. relation: its oid; columns: the replicated ones.
-- kept: what has its rows, its columns by number and name, and its partitions: who has less has lost rows or values.
-- types: those of the columns. Reads catalogs.
CREATE OR REPLACE FUNCTION pgfanout.form(relation oid, columns text[], OUT kept text[], OUT types text[])
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE part (oid) AS (
        SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = relation
        UNION ALL
        SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
    )
    SELECT
        ARRAY(
            SELECT a.attnum || ' ' || a.attname FROM pg_attribute a
            WHERE a.attrelid = relation AND a.attname = ANY (columns) AND NOT a.attisdropped
            UNION ALL
            SELECT 'partition ' || p.oid FROM part p
        ),
        ARRAY(
            SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
            WHERE a.attrelid = relation AND a.attname = ANY (columns) AND NOT a.attisdropped
            ORDER BY a.attnum
        )
$$;

-- Columns and indexes of a table and its partitions, with all that goes, or stands in the way, when they are dropped:
-- defaults, sequences, constraints, generated columns, statistics, views, policies, foreign keys, rights, comments, labels,
-- and what depends on these. relation: its oid; columns, indexes: names, or NULL for all columns. Each thing by its
-- numbers in the catalogs. Reads catalogs.
CREATE OR REPLACE FUNCTION pgfanout.attached(relation oid, columns text[], indexes text[]) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE part (oid) AS (
        SELECT relation
        UNION ALL
        SELECT i.inhrelid FROM part p JOIN pg_inherits i ON i.inhparent = p.oid
    ),
    thing (class, object, number) AS (
        SELECT f.class, f.object, f.number
        FROM
            part p
            CROSS JOIN LATERAL (
                SELECT 'pg_class'::regclass::oid, a.attrelid, a.attnum::int4
                FROM pg_attribute a
                WHERE
                    a.attrelid = p.oid AND a.attnum > 0 AND NOT a.attisdropped
                    AND (a.attname = ANY (columns)) IS NOT FALSE
                UNION ALL
                SELECT 'pg_class'::regclass, c.oid, 0
                FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                WHERE i.indrelid = p.oid AND c.relname = ANY (indexes)
                UNION ALL
                SELECT 'pg_constraint'::regclass, k.oid, 0
                FROM pg_constraint k WHERE k.conrelid = p.oid AND k.conname = ANY (indexes)
            ) f (class, object, number)
        UNION
        SELECT n.class, n.object, n.number
        FROM
            thing t
            CROSS JOIN LATERAL (
                SELECT d.classid, d.objid, d.objsubid
                FROM pg_depend d
                WHERE d.refclassid = t.class AND d.refobjid = t.object AND d.refobjsubid = t.number
                UNION ALL
                -- From PostgreSQL 16 on it is the expression that depends on another column.
                SELECT 'pg_class'::regclass, e.adrelid, e.adnum
                FROM pg_attrdef e JOIN pg_attribute a ON a.attrelid = e.adrelid AND a.attnum = e.adnum
                WHERE t.class = 'pg_attrdef'::regclass AND e.oid = t.object AND a.attgenerated <> ''
            ) n (class, object, number)
    )
    SELECT array_agg(concat_ws(' ', a.word, t.class, t.object, t.number))
    FROM
        thing t
        CROSS JOIN LATERAL (
            SELECT NULL
            UNION ALL
            SELECT 'rights' FROM pg_attribute a
            WHERE t.class = 'pg_class'::regclass AND (a.attrelid, a.attnum) = (t.object, t.number) AND a.attacl IS NOT NULL
            UNION ALL
            SELECT 'comment' FROM pg_description d WHERE (d.classoid, d.objoid, d.objsubid) = (t.class, t.object, t.number)
            UNION ALL
            SELECT 'label' FROM pg_seclabel l WHERE (l.classoid, l.objoid, l.objsubid) = (t.class, t.object, t.number)
        ) a (word)
$$;

INSERT INTO pgfanout.replica_installation (version) VALUES (0) ON CONFLICT DO NOTHING;
