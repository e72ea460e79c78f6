-- The queue stays as fast as it was at first, however many runs were claimed since.
--
-- Each run that is claimed or finished leaves a dead entry behind it in the queue's index and in that of the leases,
-- where the next claim and the next sweep begin to read. They step over them until a vacuum takes them away.

-- After so many dead rows and no share of the table: a long history must not put it off. And always in the indexes,
-- which a vacuum leaves as they are where less than 2 % of the pages have dead rows.
ALTER TABLE public.pipeline_runs SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, vacuum_index_cleanup = on);

-- A run as hosts see it. `input`, the bill's whole text, is dropped before JSON is made of the row, not after.
CREATE OR REPLACE FUNCTION public.pipeline_run_json(run public.pipeline_runs) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    run.input := NULL;
    RETURN pg_catalog.to_jsonb(run) - 'input'
           || pg_catalog.jsonb_build_object('cost_nano', public.pipeline_cost_nano(run.id));
END $$;

-- As before, except that the look at what is due next begins where the claim ended.
CREATE OR REPLACE FUNCTION public.claim_runs(
    worker text, code_version text, max_runs integer, lease_seconds double precision
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    -- A variable, because an index cannot be searched for a function that is called anew for each row.
    moment  timestamptz := pg_catalog.clock_timestamp();
    mine    public.pipeline_runs[];
    last_at timestamptz;
    next_at timestamptz;
BEGIN
    -- The array keeps its plan (an index scan that stops after max_runs), whatever the planner believes of the table.
    WITH claimed AS (
        UPDATE public.pipeline_runs r
           SET status = 'running', worker = claim_runs.worker, epoch = r.epoch + 1, attempts = r.attempts + 1,
               started_at = CASE r.epoch WHEN 0 THEN moment ELSE r.started_at END,
               lease_until = public.pipeline_lease_end(lease_seconds), error_message = NULL
         WHERE r.id = ANY (ARRAY(
                   SELECT q.id FROM public.pipeline_runs q
                    WHERE q.status = 'queued' AND q.code_version = claim_runs.code_version AND q.run_at <= moment
                    ORDER BY q.run_at, q.id LIMIT max_runs FOR UPDATE SKIP LOCKED))
        RETURNING r AS run
    )
    SELECT pg_catalog.array_agg(c.run ORDER BY (c.run).run_at, (c.run).id), pg_catalog.max((c.run).run_at)
      INTO mine, last_at FROM claimed c;
    -- What was skipped before it is just being claimed by others.
    SELECT q.run_at INTO next_at FROM public.pipeline_runs q
     WHERE q.status = 'queued' AND q.code_version = claim_runs.code_version
           AND q.run_at >= coalesce(last_at, '-infinity')
     ORDER BY q.run_at LIMIT 1;
    RETURN pg_catalog.jsonb_build_object(
        'runs', (SELECT coalesce(pg_catalog.jsonb_agg(public.pipeline_handover(mine[n]) ORDER BY n), '[]')
                   FROM pg_catalog.generate_subscripts(mine, 1) n),
        -- GREATEST leaves nulls out, so it is asked for only where one waits.
        'wait_seconds', CASE WHEN next_at IS NOT NULL
            THEN GREATEST(EXTRACT(epoch FROM next_at - pg_catalog.clock_timestamp()), 0)::double precision END);
END $$;

-- As before, except that only leases that have ended are read, and not those of all runs that are being worked on.
CREATE OR REPLACE FUNCTION public.sweep_stale_runs(max_rows integer DEFAULT 100) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    -- A variable, as in claim_runs.
    moment timestamptz := pg_catalog.clock_timestamp();
    stale  public.pipeline_runs;
    ends   text;
    counts jsonb := '{"cancelled": 0, "failed": 0, "queued": 0}';
BEGIN
    FOR stale IN
        SELECT * FROM public.pipeline_runs r
         WHERE r.status = 'running' AND r.lease_until < moment
         ORDER BY r.lease_until LIMIT max_rows FOR UPDATE SKIP LOCKED
    LOOP
        ends := CASE WHEN stale.cancel_requested THEN 'cancelled'
                     WHEN stale.attempts >= stale.max_attempts THEN 'failed' ELSE 'queued' END;
        IF ends = 'failed' THEN
            PERFORM public.pipeline_exhaust(stale);
        ELSE
            UPDATE public.pipeline_runs r
               SET status = ends, lease_until = NULL,
                   completed_at = CASE ends WHEN 'cancelled' THEN pg_catalog.clock_timestamp() END,
                   error_message = pg_catalog.format('its worker %s stopped without a word', r.worker)
             WHERE r.id = stale.id;
        END IF;
        counts := pg_catalog.jsonb_set(counts, ARRAY[ends], pg_catalog.to_jsonb((counts ->> ends)::integer + 1));
    END LOOP;
    RETURN counts;
END $$;

SELECT public.llm_common_secure_function('public.pipeline_run_json(public.pipeline_runs)');
SELECT public.llm_common_secure_function('public.claim_runs(text, text, integer, double precision)');
SELECT public.llm_common_secure_function('public.sweep_stale_runs(integer)');

NOTIFY pgrst, 'reload schema';
