-- The gate of a project is free while the disk writes.
--
-- A transaction keeps its locks until its commit is on the disk. Calls of one project pass its gate one by one, so on
-- one budget there would be no more of them in a second than the disk has flushes in it. These two procedures commit
-- without waiting for the disk, which opens the gate, and wait for it afterwards, beside all the others who do.
--
-- Nobody is told of anything that is not on the disk: the answer is sent after the second commit, and what the next one
-- through the gate builds upon lies before its own commit in the log, so it is on the disk too by the time that one is
-- answered. A crash in between undoes what nobody was told of; asking again with the same id is harmless.
--
-- A transaction of the caller's own (PostgREST, a pool that is not in autocommit mode) cannot be committed here: there,
-- the functions of the same name without `_early` are called, and hold the gate until the caller's commit.

-- Procedures as well: FUNCTION in the first version refused them.
CREATE OR REPLACE FUNCTION public.llm_common_secure_function(target regprocedure) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM %s', target, public.llm_common_shut_out());
    IF EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'service_role') THEN
        EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO service_role', target);
    END IF;
END $$;

-- Waits until all that was committed before is on the disk (and on the standbys that the session waits for): a commit
-- flushes the log up to itself, if it has something to write. The message is for nobody.
CREATE OR REPLACE FUNCTION public.llm_common_flush() RETURNS void
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.pg_logical_emit_message(true, 'llm_common', '')
$$;

-- A procedure with a search_path of its own may not commit; every name in these two is qualified instead.
CREATE OR REPLACE PROCEDURE public.reserve_cost_early(
    call jsonb, limits jsonb, hold_seconds double precision, INOUT answer jsonb DEFAULT NULL
)
LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
    answer := public.reserve_cost(call, limits, hold_seconds);
    PERFORM pg_catalog.set_config('synchronous_commit', 'off', true);
    COMMIT;
    PERFORM public.llm_common_flush();
END $$;

CREATE OR REPLACE PROCEDURE public.settle_cost_early(
    reservation_id uuid, outcome jsonb, INOUT answer jsonb DEFAULT NULL
)
LANGUAGE plpgsql SECURITY INVOKER AS $$
BEGIN
    answer := public.settle_cost(reservation_id, outcome);
    PERFORM pg_catalog.set_config('synchronous_commit', 'off', true);
    COMMIT;
    PERFORM public.llm_common_flush();
END $$;

SELECT public.llm_common_secure_function('public.llm_common_flush()');
SELECT public.llm_common_secure_function('public.reserve_cost_early(jsonb, jsonb, double precision, jsonb)');
SELECT public.llm_common_secure_function('public.settle_cost_early(uuid, jsonb, jsonb)');

NOTIFY pgrst, 'reload schema';
