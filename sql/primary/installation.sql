-- Which installation this is, whether it is where it was installed, and the publisher's term (empty if none
-- began since the server was started). Reads pgfanout.installation, catalogs.
SELECT
    i.epoch::text AS epoch,
    i.place = pgfanout.place() AS in_place,
    CASE WHEN i.term_server = pg_postmaster_start_time() THEN i.term::text ELSE '' END AS term
FROM pgfanout.installation i
