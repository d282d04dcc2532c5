-- Removes what pgfanout keeps on a replica; the replicated tables stay. Twice does no harm.
DROP SCHEMA IF EXISTS pgfanout CASCADE;
-- Its views went with what they show; what somebody else made there stays.
DO $$
BEGIN
    DROP SCHEMA IF EXISTS pgfanout_status;
EXCEPTION WHEN dependent_objects_still_exist THEN
    NULL;
END
$$;
