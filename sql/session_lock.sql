-- Whether a session holds an advisory lock of one number in this database.
-- Parameters: $1 int8: the number.
-- Reads pg_locks, where the number stands in two halves.
SELECT
    EXISTS (
        SELECT
        FROM
            pg_locks l
            JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
        WHERE
            l.locktype = 'advisory'
            AND l.classid::int8 = ($1::int8 >> 32) & 4294967295
            AND l.objid::int8 = $1 & 4294967295
            AND l.objsubid = 1
            AND l.granted
    ) AS held
