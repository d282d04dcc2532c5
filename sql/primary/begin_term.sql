-- Begins the term of the publisher that calls it: what others publish from now on is of another term.
-- Writes pgfanout.installation; only the holder of the publisher's lock may call it.
UPDATE pgfanout.installation SET term = gen_random_uuid(), term_server = pg_postmaster_start_time()
