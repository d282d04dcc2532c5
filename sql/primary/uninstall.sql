-- What is left once no table is captured and no event trigger calls any of it.
DROP SCHEMA IF EXISTS pgfanout CASCADE
