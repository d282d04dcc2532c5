-- Which session holds an advisory lock of one number in this database.
-- Parameters: $1 int8: the number.
-- Returns one row: the session's application_name, NULL if there is no such session.
-- Reads pg_locks, where the number stands in two halves, and pg_stat_activity.
SELECT
    (
        SELECT coalesce(a.application_name, '')
        FROM
            pg_locks l
            JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
            LEFT JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE
            l.locktype = 'advisory'
            AND l.classid::int8 = ($1::int8 >> 32) & 4294967295
            AND l.objid::int8 = $1 & 4294967295
            AND l.objsubid = 1
            AND l.granted
        LIMIT 1
    ) AS holder
