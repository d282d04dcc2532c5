-- Removes what pgfanout keeps: on a replica, where the replicated tables stay; on the primary what is left once no table
-- is captured and no event trigger calls any of it. Twice does no harm.
DROP SCHEMA IF EXISTS pgfanout CASCADE;
-- Its views went with what they show; what somebody else made there stays.
DO $$
BEGIN
    DROP SCHEMA IF EXISTS pgfanout_status;
EXCEPTION WHEN dependent_objects_still_exist THEN
    NULL;
END
$$;
