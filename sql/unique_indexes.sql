-- The unique and exclusion constraints of a table, that of its key among them. Parameters: $1, $2 text: schema and name.
-- Returns for each whether it is checked at once (a deferrable one is not, and what violates it can't be skipped), and
-- what it demands, in words that are equal on a primary and on its replica where it demands the same.
-- Reads catalogs only.
SELECT
    i.indimmediate AS immediate,
    coalesce(
        (
            -- WITHOUT OVERLAPS (PostgreSQL 18) is one, too.
            SELECT pg_get_constraintdef(x.oid)
            FROM pg_constraint x
            WHERE i.indisexclusion AND x.conindid = i.indexrelid AND x.contype <> 'f'
        ),
        concat_ws(
            ' ',
            ARRAY(
                SELECT pg_get_indexdef(i.indexrelid, n, false) || ' ' || i.indcollation[n - 1]::regcollation::text
                FROM generate_series(1, i.indnkeyatts) n
            )::text,
            pg_get_expr(i.indpred, i.indrelid),
            -- From PostgreSQL 15 on; before, nulls were always distinct.
            coalesce(to_jsonb(i) ->> 'indnullsnotdistinct', 'false')
        )
    ) AS demand
FROM
    pg_index i
    JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND (i.indisunique OR i.indisexclusion)
