-- Whether transactions wait for others that notify: these commit one after the other, each under a lock of the whole
-- cluster. Returns one row. Reads pg_locks.
SELECT EXISTS (
    SELECT
    FROM pg_locks k
    WHERE k.locktype = 'object' AND k.classid = 'pg_database'::regclass AND k.objid = 0 AND NOT k.granted
) AS waits
