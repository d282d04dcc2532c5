-- Ends a pause. Where there is none, it does no harm.
DROP TABLE IF EXISTS pgfanout.paused;
