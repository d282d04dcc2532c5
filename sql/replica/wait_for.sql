-- Waits until what a transaction wrote on the primary is here. Returns whether it is, at the latest after "timeout".
-- transaction: what pg_current_xact_id() returned in it, on the primary. One that wrote to no replicated table is waited
-- for until another one that did comes after it. Who looks at one snapshot all along would wait for nothing: an error.
-- Nothing is waited for without a time limit: null for null.
-- For applications, which need USAGE on the schema and nothing else. Reads pgfanout.position.
CREATE OR REPLACE FUNCTION pgfanout.wait_for(transaction xid8, timeout interval DEFAULT '5 s') RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = '' AS $$
DECLARE
    ends_at timestamptz := clock_timestamp() + timeout;
    pause double precision := 0.001;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'pgfanout.wait_for sees nothing new in a transaction at %', current_setting('transaction_isolation')
            USING ERRCODE = 'invalid_transaction_state', HINT = 'Call it before BEGIN, or at READ COMMITTED.';
    END IF;
    WHILE NOT EXISTS (SELECT FROM pgfanout.position p WHERE pg_visible_in_snapshot(transaction, p.snapshot)) LOOP
        IF clock_timestamp() >= ends_at THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(pause);
        pause := least(pause * 1.5, 0.02);
    END LOOP;
    RETURN true;
END
$$;
