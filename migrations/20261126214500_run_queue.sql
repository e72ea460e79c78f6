-- The queue: runs that wait for a worker, whoever and wherever it is.
--
-- A queued run is claimed by workers of its own code version only, the longest due first, and not before run_at. Workers
-- skip what another one is just claiming, so they never wait for each other; runs whose owners died come back by
-- sweep_stale_runs.
--
-- Locks are taken as before: the run, then whatever settle_cost takes. Who locks several runs takes them in the order of
-- their ids or keys, or skips those that are locked.

-- When a queued run may be claimed. now(), and no clock_timestamp(), so that a long table is not written anew.
ALTER TABLE public.pipeline_runs ADD COLUMN IF NOT EXISTS run_at timestamptz NOT NULL DEFAULT pg_catalog.now();
CREATE INDEX IF NOT EXISTS pipeline_runs_queue ON public.pipeline_runs (code_version, run_at, id) WHERE status = 'queued';

-- Parts ---------------------------------------------------------------------------------------------------------------

-- A claimed run for its worker, with the steps that this code finished.
CREATE OR REPLACE FUNCTION public.pipeline_handover(claimed public.pipeline_runs) RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.jsonb_build_object(
        'state', 'claimed', 'run', public.pipeline_run_json(claimed), 'input', (claimed).input,
        'steps', (SELECT coalesce(pg_catalog.jsonb_object_agg(s.key, s.output), '{}') FROM public.pipeline_steps s
                   WHERE s.run_id = (claimed).id AND s.status = 'completed' AND s.code_version = (claimed).code_version))
$$;

-- Gives a locked run to a worker. Returns as pipeline_handover, or
-- {"state": "completed", "run": {...}}   there is nothing left to do
-- {"state": "exhausted", "run": {...}}   its owners died max_attempts times, so it is failed now
-- LC006 where its owner is alive. Who takes up a failed or cancelled run has all its attempts again.
CREATE OR REPLACE FUNCTION public.pipeline_claim(
    run public.pipeline_runs, for_worker text, for_code text, lease_seconds double precision
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    claimed public.pipeline_runs;
BEGIN
    IF run.status = 'completed' THEN
        RETURN pg_catalog.jsonb_build_object('state', 'completed', 'run', public.pipeline_run_json(run));
    ELSIF run.status = 'running' AND run.lease_until > pg_catalog.clock_timestamp() THEN
        RAISE EXCEPTION USING ERRCODE = 'LC006',
            MESSAGE = pg_catalog.format(
                'run %s is being worked on by %s; wait for it, cancel it, or use another idempotency key', run.id, run.worker),
            DETAIL = pg_catalog.jsonb_build_object('run_id', run.id, 'lease_until', run.lease_until)::text;
    ELSIF run.status = 'running' AND run.attempts >= run.max_attempts THEN
        RETURN pg_catalog.jsonb_build_object(
            'state', 'exhausted', 'run', public.pipeline_run_json(public.pipeline_exhaust(run)));
    END IF;
    UPDATE public.pipeline_runs r
       SET status = 'running', worker = for_worker, epoch = r.epoch + 1, code_version = for_code,
           started_at = CASE r.epoch WHEN 0 THEN pg_catalog.clock_timestamp() ELSE r.started_at END,
           lease_until = public.pipeline_lease_end(lease_seconds), completed_at = NULL, error_message = NULL,
           cancel_requested = false,
           attempts = CASE WHEN r.status IN ('failed', 'cancelled') THEN 1 ELSE r.attempts + 1 END
     WHERE r.id = run.id
    RETURNING * INTO claimed;
    RETURN public.pipeline_handover(claimed);
END $$;

-- Back into the queue for wait_seconds or longer: 'queued'. 'cancelled' where that was asked for, 'failed' where the
-- attempts are used up, 'fenced' where it is another worker's. `used`: 1 where this attempt counts, else 0.
CREATE OR REPLACE FUNCTION public.pipeline_put_back(
    lease jsonb, used integer, wait_seconds double precision, reason text
) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    known public.pipeline_runs;
    ends  text;
BEGIN
    SELECT * INTO known FROM public.pipeline_runs r
     WHERE r.id = (lease ->> 'run_id')::uuid AND r.worker = lease ->> 'worker'
           AND r.epoch = (lease ->> 'epoch')::integer AND r.status = 'running'
       FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'fenced';
    END IF;
    ends := CASE WHEN known.cancel_requested THEN 'cancelled'
                 WHEN known.attempts - 1 + used >= known.max_attempts THEN 'failed' ELSE 'queued' END;
    UPDATE public.pipeline_runs r
       SET status = ends, lease_until = NULL, attempts = r.attempts - 1 + used, error_message = reason,
           run_at = public.pipeline_lease_end(GREATEST(wait_seconds, 0)),
           completed_at = CASE WHEN ends <> 'queued' THEN pg_catalog.clock_timestamp() END
     WHERE r.id = known.id;
    RETURN ends;
END $$;

-- What Python calls ---------------------------------------------------------------------------------------------------

-- runs: [{bill_id, jurisdiction, models, input, code_version, max_attempts, idempotency_key}, ...]. The same key is the
-- same run: one that failed or was cancelled waits again with all its attempts, one that waits does so for this code.
-- Returns, in the same order, [{"id", "status", "refused"}]; `refused` says why nothing was done, where the key belongs
-- to another input.
CREATE OR REPLACE FUNCTION public.enqueue_runs(runs jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    moment  timestamptz := pg_catalog.clock_timestamp();
    answers jsonb[] := pg_catalog.array_fill(NULL::jsonb, ARRAY[pg_catalog.jsonb_array_length(runs)]);
    item    jsonb;
    place   bigint;
    wanted  public.pipeline_runs;
    known   public.pipeline_runs;
    differs boolean;
BEGIN
    -- In the order of the keys, so that two who enqueue the same ones do not wait for each other in a circle.
    FOR item, place IN
        SELECT e.value, e.ordinality FROM pg_catalog.jsonb_array_elements(runs) WITH ORDINALITY e
         ORDER BY e.value ->> 'idempotency_key', e.ordinality
    LOOP
        wanted := pg_catalog.jsonb_populate_record(NULL::public.pipeline_runs, item);
        INSERT INTO public.pipeline_runs AS r
            (bill_id, jurisdiction, models, input, code_version, idempotency_key, max_attempts, run_at)
        VALUES (wanted.bill_id, wanted.jurisdiction, wanted.models, wanted.input, wanted.code_version,
                wanted.idempotency_key, coalesce(wanted.max_attempts, 5),
                -- Claimed in the order in which they were given.
                moment + place * interval '1 microsecond')
        ON CONFLICT (idempotency_key) DO NOTHING
        RETURNING * INTO known;
        differs := false;
        IF NOT FOUND THEN
            SELECT * INTO known FROM public.pipeline_runs r WHERE r.idempotency_key = wanted.idempotency_key;
            differs := (known.bill_id, known.jurisdiction, known.models, known.input)
                       IS DISTINCT FROM (wanted.bill_id, wanted.jurisdiction, wanted.models, wanted.input);
        END IF;
        IF NOT differs AND (known.status IN ('failed', 'cancelled')
                            OR known.status = 'queued' AND known.code_version <> wanted.code_version) THEN
            UPDATE public.pipeline_runs r
               SET status = 'queued', code_version = wanted.code_version, run_at = moment + place * interval '1 microsecond',
                   attempts = 0, cancel_requested = false, completed_at = NULL, error_message = NULL
             WHERE r.id = known.id AND r.status = known.status
            RETURNING * INTO known;
            IF NOT FOUND THEN
                SELECT * INTO known FROM public.pipeline_runs r WHERE r.idempotency_key = wanted.idempotency_key;
            END IF;
        END IF;
        answers[place] := pg_catalog.jsonb_build_object('id', known.id, 'status', known.status, 'refused',
            CASE WHEN differs THEN pg_catalog.format(
                'idempotency key %L belongs to run %s of bill %L, whose text, models or settings are others; '
                'use a new key for a new analysis', known.idempotency_key, known.id, known.bill_id) END);
    END LOOP;
    RETURN pg_catalog.to_jsonb(answers);
END $$;

-- Up to max_runs of the runs that are due for this code, the longest due first. Returns {"runs": [as pipeline_handover],
-- "wait_seconds"}: until the next one is due, null where none waits for this code.
CREATE OR REPLACE FUNCTION public.claim_runs(
    worker text, code_version text, max_runs integer, lease_seconds double precision
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    -- A variable, because an index cannot be searched for a function that is called anew for each row.
    moment  timestamptz := pg_catalog.clock_timestamp();
    mine    public.pipeline_runs[];
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
    SELECT pg_catalog.array_agg(c.run ORDER BY (c.run).run_at, (c.run).id) INTO mine FROM claimed c;
    SELECT q.run_at INTO next_at FROM public.pipeline_runs q
     WHERE q.status = 'queued' AND q.code_version = claim_runs.code_version
     ORDER BY q.run_at LIMIT 1;
    RETURN pg_catalog.jsonb_build_object(
        'runs', (SELECT coalesce(pg_catalog.jsonb_agg(public.pipeline_handover(mine[n]) ORDER BY n), '[]')
                   FROM pg_catalog.generate_subscripts(mine, 1) n),
        -- GREATEST leaves nulls out, so it is asked for only where one waits.
        'wait_seconds', CASE WHEN next_at IS NOT NULL
            THEN GREATEST(EXTRACT(epoch FROM next_at - pg_catalog.clock_timestamp()), 0)::double precision END);
END $$;

-- One run that is to be carried out and has no living worker. Returns as pipeline_claim, or {"state": "ended", "run"}
-- for one that failed or was cancelled: who wants it all the same resumes or enqueues it. LC006 where its owner is alive.
CREATE OR REPLACE FUNCTION public.take_run(
    run_id uuid, worker text, code_version text, lease_seconds double precision
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    known public.pipeline_runs := public.pipeline_locked(run_id);
BEGIN
    IF known.status IN ('failed', 'cancelled') THEN
        RETURN pg_catalog.jsonb_build_object('state', 'ended', 'run', public.pipeline_run_json(known));
    END IF;
    RETURN public.pipeline_claim(known, worker, code_version, lease_seconds);
END $$;

-- Prolongs many leases at once. Returns {"<run id>": as pipeline_hold}.
CREATE OR REPLACE FUNCTION public.renew_run_leases(leases jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    SELECT coalesce(pg_catalog.jsonb_object_agg(l.lease ->> 'run_id', public.pipeline_hold(l.lease)), '{}')
      FROM (SELECT e.value AS lease FROM pg_catalog.jsonb_array_elements(leases) e ORDER BY e.value ->> 'run_id') l
$$;

-- Back to the queue without having used an attempt: its worker stops, or waits for a budget. Returns as
-- pipeline_put_back.
CREATE OR REPLACE FUNCTION public.release_run(lease jsonb, wait_seconds double precision, reason text) RETURNS text
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    SELECT public.pipeline_put_back(lease, 0, wait_seconds, reason)
$$;

-- Back to the queue after an attempt that failed for a reason that may pass. Returns as pipeline_put_back.
CREATE OR REPLACE FUNCTION public.retry_run(lease jsonb, wait_seconds double precision, reason text) RETURNS text
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    SELECT public.pipeline_put_back(lease, 1, wait_seconds, reason)
$$;

-- What waits, for which code, since when and what for, and who works:
-- {"waiting": [{code_version, due, delayed, due_since, next_at, reason}], "workers": [{worker, code_version, runs}]}
-- `reason` is that of the delayed run whose turn comes first.
CREATE OR REPLACE FUNCTION public.queue_status() RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    moment timestamptz := pg_catalog.clock_timestamp();
BEGIN
    RETURN pg_catalog.jsonb_build_object(
        'waiting', (
            SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(v) ORDER BY v.code_version), '[]') FROM (
                SELECT q.code_version,
                       pg_catalog.count(*) FILTER (WHERE q.run_at <= moment) AS due,
                       pg_catalog.count(*) FILTER (WHERE q.run_at > moment) AS delayed,
                       pg_catalog.min(q.run_at) FILTER (WHERE q.run_at <= moment) AS due_since,
                       pg_catalog.min(q.run_at) FILTER (WHERE q.run_at > moment) AS next_at,
                       (SELECT d.error_message FROM public.pipeline_runs d
                         WHERE d.status = 'queued' AND d.code_version = q.code_version AND d.run_at > moment
                         ORDER BY d.run_at LIMIT 1) AS reason
                  FROM public.pipeline_runs q WHERE q.status = 'queued' GROUP BY q.code_version) v),
        'workers', (
            SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(w) ORDER BY w.worker), '[]') FROM (
                SELECT r.worker, r.code_version, pg_catalog.count(*) AS runs
                  FROM public.pipeline_runs r WHERE r.status = 'running' GROUP BY r.worker, r.code_version) w));
END $$;

DO $$
DECLARE
    mine regprocedure;
BEGIN
    FOR mine IN
        SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
            'pipeline_handover', 'pipeline_claim', 'pipeline_put_back', 'enqueue_runs', 'claim_runs', 'take_run',
            'renew_run_leases', 'release_run', 'retry_run', 'queue_status')
    LOOP
        PERFORM public.llm_common_secure_function(mine);
    END LOOP;
END $$;

NOTIFY pgrst, 'reload schema';
