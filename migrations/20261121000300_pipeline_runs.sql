-- Durable runs: who works on one, what is finished of it, and how it ended.
--
-- A run belongs to one worker at a time: its lease says until when, its epoch counts the owners. Whatever an owner
-- writes carries its lease, {"run_id", "worker", "epoch", "seconds"}, and prolongs it; who was taken over is 'fenced',
-- and nothing of it is stored except what it paid. A finished step is stored by the transaction that settles its money.
--
-- Locks are taken in this order: the run, then whatever settle_cost takes.

-- analysis_json and review_json belong together: the review is that of the stored draft. `input` has the bill's text,
-- which no list or report returns.
CREATE TABLE IF NOT EXISTS public.pipeline_runs (
    id               uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    bill_id          text NOT NULL,
    jurisdiction     text NOT NULL,
    models           jsonb NOT NULL,
    research_model   text GENERATED ALWAYS AS (models ->> 'research') STORED,
    generate_model   text GENERATED ALWAYS AS (models ->> 'generate') STORED,
    review_model     text GENERATED ALWAYS AS (models ->> 'review') STORED,
    status           text NOT NULL DEFAULT 'queued',
    started_at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    completed_at     timestamptz,
    analysis_json    jsonb,
    review_json      jsonb,
    review_passed    boolean,
    quality_score    double precision,
    quality_note     text,
    error_message    text,
    input            jsonb NOT NULL,
    code_version     text NOT NULL,
    idempotency_key  text UNIQUE,
    worker           text,
    epoch            integer NOT NULL DEFAULT 0,
    lease_until      timestamptz,
    cancel_requested boolean NOT NULL DEFAULT false,
    attempts         integer NOT NULL DEFAULT 0,
    max_attempts     integer NOT NULL DEFAULT 5,
    CONSTRAINT pipeline_runs_status CHECK (status IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
    CONSTRAINT pipeline_runs_running_is_leased CHECK ((status = 'running') = (lease_until IS NOT NULL)),
    CONSTRAINT pipeline_runs_end_is_dated CHECK ((status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)),
    CONSTRAINT pipeline_runs_quality CHECK (quality_score BETWEEN 0 AND 1)
) WITH (fillfactor = 80);
CREATE INDEX IF NOT EXISTS pipeline_runs_started ON public.pipeline_runs (started_at);
CREATE INDEX IF NOT EXISTS pipeline_runs_lease ON public.pipeline_runs (lease_until) WHERE status = 'running';

-- `key` names a step within its run ('review:2'), `step` what kind it is ('review'). A failed step has no output, and
-- is paid for all the same. reservation_id is the id of its row in cost_tracking.
CREATE TABLE IF NOT EXISTS public.pipeline_steps (
    id             uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    run_id         uuid NOT NULL REFERENCES public.pipeline_runs ON DELETE CASCADE,
    key            text NOT NULL,
    "position"     integer NOT NULL,
    step           text NOT NULL,
    model          text,
    status         text NOT NULL,
    output         jsonb,
    "timestamp"    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    code_version   text NOT NULL,
    epoch          integer NOT NULL,
    reservation_id uuid,
    CONSTRAINT pipeline_steps_key UNIQUE (run_id, key),
    CONSTRAINT pipeline_steps_status CHECK (status IN ('completed', 'failed')),
    CONSTRAINT pipeline_steps_output CHECK ((status = 'completed') = (output IS NOT NULL))
) WITH (fillfactor = 80);

SELECT public.llm_common_secure_table('public.pipeline_runs');
SELECT public.llm_common_secure_table('public.pipeline_steps');

-- Parts ---------------------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.pipeline_lease_end(seconds double precision) RETURNS timestamptz
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => seconds)
$$;

-- What the run cost so far: also what was charged for owners who died.
CREATE OR REPLACE FUNCTION public.pipeline_cost_nano(run uuid) RETURNS bigint
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT coalesce(pg_catalog.sum(c.cost_usd) * 1000000000, 0)::bigint
      FROM public.cost_tracking c WHERE c.run_id = run::text
$$;

CREATE OR REPLACE FUNCTION public.pipeline_run_json(run public.pipeline_runs) RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.to_jsonb(run) - 'input'
           || pg_catalog.jsonb_build_object('cost_nano', public.pipeline_cost_nano((run).id))
$$;

-- The run, locked. LC004 where there is none.
CREATE OR REPLACE FUNCTION public.pipeline_locked(run uuid) RETURNS public.pipeline_runs
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    found_run public.pipeline_runs;
BEGIN
    SELECT * INTO found_run FROM public.pipeline_runs r WHERE r.id = run FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LC004',
            MESSAGE = pg_catalog.format('run %s is not known; llm-common runs list shows those there are', run),
            DETAIL = pg_catalog.jsonb_build_object('run_id', run)::text;
    END IF;
    RETURN found_run;
END $$;

-- Prolongs a lease that still holds and locks its run: 'held', 'cancelled' (held, and asked to stop) or 'fenced'.
CREATE OR REPLACE FUNCTION public.pipeline_hold(lease jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    state text;
BEGIN
    UPDATE public.pipeline_runs r
       SET lease_until = public.pipeline_lease_end((lease ->> 'seconds')::double precision)
     WHERE r.id = (lease ->> 'run_id')::uuid AND r.worker = lease ->> 'worker'
           AND r.epoch = (lease ->> 'epoch')::integer AND r.status = 'running'
    RETURNING CASE WHEN r.cancel_requested THEN 'cancelled' ELSE 'held' END INTO state;
    RETURN coalesce(state, 'fenced');
END $$;

-- step: {key, step, model, output}; without an output it failed. The run must be held.
CREATE OR REPLACE FUNCTION public.pipeline_store(lease jsonb, step jsonb, reservation uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    INSERT INTO public.pipeline_steps AS s
        (run_id, key, "position", step, model, status, output, code_version, epoch, reservation_id)
    SELECT r.id, step ->> 'key',
           1 + coalesce((SELECT pg_catalog.max(o."position") FROM public.pipeline_steps o WHERE o.run_id = r.id), 0),
           step ->> 'step', step ->> 'model',
           CASE WHEN NULLIF(step -> 'output', 'null') IS NULL THEN 'failed' ELSE 'completed' END,
           NULLIF(step -> 'output', 'null'), r.code_version, r.epoch, reservation
      FROM public.pipeline_runs r WHERE r.id = (lease ->> 'run_id')::uuid
    ON CONFLICT ON CONSTRAINT pipeline_steps_key DO UPDATE
        SET "position" = excluded."position", model = excluded.model, status = excluded.status,
            output = excluded.output, "timestamp" = pg_catalog.clock_timestamp(),
            code_version = excluded.code_version, epoch = excluded.epoch, reservation_id = excluded.reservation_id
$$;

-- Gives a locked run to a worker, with the steps that this code finished:
-- {"state": "claimed", "run": {...}, "input": {...}, "steps": {"<key>": output}}
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
           lease_until = public.pipeline_lease_end(lease_seconds), completed_at = NULL, error_message = NULL,
           cancel_requested = false,
           attempts = CASE WHEN r.status IN ('failed', 'cancelled') THEN 1 ELSE r.attempts + 1 END
     WHERE r.id = run.id
    RETURNING * INTO claimed;
    RETURN pg_catalog.jsonb_build_object(
        'state', 'claimed', 'run', public.pipeline_run_json(claimed), 'input', claimed.input,
        'steps', (SELECT coalesce(pg_catalog.jsonb_object_agg(s.key, s.output), '{}') FROM public.pipeline_steps s
                   WHERE s.run_id = claimed.id AND s.status = 'completed' AND s.code_version = for_code));
END $$;

-- The end of a locked run whose owner died once too often.
CREATE OR REPLACE FUNCTION public.pipeline_exhaust(run public.pipeline_runs) RETURNS public.pipeline_runs
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    UPDATE public.pipeline_runs r
       SET status = 'failed', lease_until = NULL, completed_at = pg_catalog.clock_timestamp(),
           error_message = pg_catalog.format(
               'its worker stopped without a word %s times, the last one was %s; resume it once the cause is found',
               r.attempts, r.worker)
     WHERE r.id = (run).id
    RETURNING r
$$;

-- What Python calls ---------------------------------------------------------------------------------------------------

-- run: {bill_id, jurisdiction, models, input, code_version} and, where wanted, {idempotency_key, max_attempts}
-- The same idempotency key is the same run, which must then have the same input (else LC002). Returns as pipeline_claim.
CREATE OR REPLACE FUNCTION public.start_run(run jsonb, worker text, lease_seconds double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    wanted public.pipeline_runs := pg_catalog.jsonb_populate_record(NULL::public.pipeline_runs, run);
    known  public.pipeline_runs;
    result jsonb;
BEGIN
    INSERT INTO public.pipeline_runs AS r
        (bill_id, jurisdiction, models, input, code_version, idempotency_key, max_attempts)
    VALUES (wanted.bill_id, wanted.jurisdiction, wanted.models, wanted.input, wanted.code_version,
            wanted.idempotency_key, coalesce(wanted.max_attempts, 5))
    ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING * INTO known;
    IF NOT FOUND THEN
        SELECT * INTO known FROM public.pipeline_runs r WHERE r.idempotency_key = wanted.idempotency_key FOR UPDATE;
        IF (known.bill_id, known.jurisdiction, known.models, known.input)
           IS DISTINCT FROM (wanted.bill_id, wanted.jurisdiction, wanted.models, wanted.input) THEN
            RAISE EXCEPTION USING ERRCODE = 'LC002',
                MESSAGE = pg_catalog.format(
                    'idempotency key %L belongs to run %s of bill %L, whose text, models or settings are others; '
                    'use a new key for a new analysis', known.idempotency_key, known.id, known.bill_id);
        END IF;
    END IF;
    result := public.pipeline_claim(known, start_run.worker, wanted.code_version, lease_seconds);
    -- Whoever starts a run ends those that nobody owns any more. After the claim, and skipping what is locked, so that
    -- two starts never wait for each other.
    PERFORM public.sweep_stale_runs(20);
    RETURN result;
END $$;

-- Returns as pipeline_claim; LC004 for an unknown run.
CREATE OR REPLACE FUNCTION public.resume_run(
    run_id uuid, worker text, code_version text, lease_seconds double precision
) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    SELECT public.pipeline_claim(public.pipeline_locked(run_id), worker, code_version, lease_seconds)
$$;

CREATE OR REPLACE FUNCTION public.renew_run_lease(lease jsonb) RETURNS text
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$ SELECT public.pipeline_hold(lease) $$;

-- Checkpoint, money and lease in one transaction. A fenced owner's money is settled all the same: it was paid.
-- Returns {"state": as pipeline_hold, "settlement": as settle_cost}.
CREATE OR REPLACE FUNCTION public.finish_step(lease jsonb, step jsonb, reservation_id uuid, outcome jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    state text := public.pipeline_hold(lease);
BEGIN
    IF state <> 'fenced' THEN
        PERFORM public.pipeline_store(lease, step, reservation_id);
    END IF;
    RETURN pg_catalog.jsonb_build_object('state', state, 'settlement', public.settle_cost(reservation_id, outcome));
END $$;

-- A checkpoint that cost nothing by itself. Returns as pipeline_hold.
CREATE OR REPLACE FUNCTION public.save_step(lease jsonb, step jsonb) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    state text := public.pipeline_hold(lease);
BEGIN
    IF state <> 'fenced' THEN
        PERFORM public.pipeline_store(lease, step, NULL);
    END IF;
    RETURN state;
END $$;

-- result: {analysis, review, review_passed}. A wish to cancel that comes this late changes nothing: all is paid.
-- Returns the run; null for a fenced owner.
CREATE OR REPLACE FUNCTION public.complete_run(lease jsonb, result jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    done public.pipeline_runs;
BEGIN
    UPDATE public.pipeline_runs r
       SET status = 'completed', lease_until = NULL, completed_at = pg_catalog.clock_timestamp(),
           analysis_json = result -> 'analysis', review_json = NULLIF(result -> 'review', 'null'),
           review_passed = (result ->> 'review_passed')::boolean
     WHERE r.id = (lease ->> 'run_id')::uuid AND r.worker = lease ->> 'worker'
           AND r.epoch = (lease ->> 'epoch')::integer AND r.status = 'running'
    RETURNING * INTO done;
    RETURN CASE WHEN FOUND THEN public.pipeline_run_json(done) END;
END $$;

-- Ends a run that does not complete: final_status is 'failed' or 'cancelled'. False for a fenced owner.
CREATE OR REPLACE FUNCTION public.stop_run(lease jsonb, final_status text, error_message text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    IF final_status IS NULL OR final_status NOT IN ('failed', 'cancelled') THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002',
            MESSAGE = pg_catalog.format('a run is stopped as failed or cancelled, not as %L', final_status);
    END IF;
    UPDATE public.pipeline_runs r
       SET status = final_status, lease_until = NULL, completed_at = pg_catalog.clock_timestamp(),
           error_message = stop_run.error_message
     WHERE r.id = (lease ->> 'run_id')::uuid AND r.worker = lease ->> 'worker'
           AND r.epoch = (lease ->> 'epoch')::integer AND r.status = 'running';
    RETURN FOUND;
END $$;

-- A live owner is asked to stop, a run that nobody works on ends at once, one that has ended stays as it is.
-- Returns the run.
CREATE OR REPLACE FUNCTION public.request_cancel(run_id uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    known public.pipeline_runs := public.pipeline_locked(run_id);
BEGIN
    IF known.status = 'running' AND known.lease_until > pg_catalog.clock_timestamp() THEN
        UPDATE public.pipeline_runs r SET cancel_requested = true WHERE r.id = known.id RETURNING * INTO known;
    ELSIF known.status IN ('running', 'queued') THEN
        UPDATE public.pipeline_runs r
           SET status = 'cancelled', cancel_requested = true, lease_until = NULL,
               completed_at = pg_catalog.clock_timestamp(), error_message = 'cancelled while nobody worked on it'
         WHERE r.id = known.id RETURNING * INTO known;
    END IF;
    RETURN public.pipeline_run_json(known);
END $$;

-- Takes up to max_rows runs from owners who let their lease end: cancelled where that was asked for, failed where the
-- attempts are used up, else queued, for whoever resumes them. Returns {"cancelled": n, "failed": n, "queued": n}.
CREATE OR REPLACE FUNCTION public.sweep_stale_runs(max_rows integer DEFAULT 100) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    stale  public.pipeline_runs;
    ends   text;
    counts jsonb := '{"cancelled": 0, "failed": 0, "queued": 0}';
BEGIN
    FOR stale IN
        SELECT * FROM public.pipeline_runs r
         WHERE r.status = 'running' AND r.lease_until < pg_catalog.clock_timestamp()
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

DO $$
DECLARE
    mine regprocedure;
BEGIN
    FOR mine IN
        SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
            'pipeline_lease_end', 'pipeline_cost_nano', 'pipeline_run_json', 'pipeline_locked', 'pipeline_hold',
            'pipeline_store', 'pipeline_claim', 'pipeline_exhaust', 'start_run', 'resume_run', 'renew_run_lease',
            'finish_step', 'save_step', 'complete_run', 'stop_run', 'request_cancel', 'sweep_stale_runs')
    LOOP
        PERFORM public.llm_common_secure_function(mine);
    END LOOP;
END $$;

NOTIFY pgrst, 'reload schema';
