-- Durable runs: who works on one, what is finished of it, and how it ended.
--
-- A run belongs to one worker at a time: its lease says until when, its epoch counts the owners. Whatever an owner
-- writes carries its lease, {"run_id", "worker", "epoch", "seconds"}, and prolongs it; who was taken over is 'fenced',
-- and nothing of it is stored except what it paid. A finished step is stored by the transaction that settles its money.
--
-- Locks are taken in this order: the run, then whatever settle_cost takes.

BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SELECT public.llm_common_look_first();

-- A table of the first schema becomes the one below. Runs that began an hour ago and never ended are failed.
DO $$
BEGIN
    IF EXISTS (SELECT FROM public.llm_common_tables() t WHERE t.name = 'pipeline_runs' AND t.state = 'earlier') THEN
        ALTER TABLE public.pipeline_runs
            ADD COLUMN IF NOT EXISTS jurisdiction text,
            ADD COLUMN IF NOT EXISTS research_model text,
            ADD COLUMN IF NOT EXISTS generate_model text,
            ADD COLUMN IF NOT EXISTS review_model text,
            ADD COLUMN IF NOT EXISTS completed_at timestamptz,
            ADD COLUMN IF NOT EXISTS analysis_json jsonb,
            ADD COLUMN IF NOT EXISTS review_json jsonb,
            ADD COLUMN IF NOT EXISTS review_passed boolean,
            ADD COLUMN IF NOT EXISTS quality_score numeric,
            ADD COLUMN IF NOT EXISTS error_message text;
        PERFORM public.llm_common_convert('public.pipeline_runs', '{status}', $changes$
            ALTER COLUMN id SET DEFAULT pg_catalog.gen_random_uuid(),
            ALTER COLUMN bill_id TYPE text USING coalesce(bill_id::text, ''),
            ALTER COLUMN bill_id SET NOT NULL,
            ALTER COLUMN jurisdiction TYPE text USING coalesce(jurisdiction::text, ''),
            ALTER COLUMN jurisdiction SET NOT NULL,
            ALTER COLUMN research_model TYPE text USING research_model::text,
            ALTER COLUMN research_model DROP NOT NULL,
            ALTER COLUMN generate_model TYPE text USING generate_model::text,
            ALTER COLUMN generate_model DROP NOT NULL,
            ALTER COLUMN review_model TYPE text USING review_model::text,
            ALTER COLUMN review_model DROP NOT NULL,
            ALTER COLUMN status DROP DEFAULT,
            ALTER COLUMN status TYPE text USING coalesce(status::text,
                CASE WHEN analysis_json IS NULL THEN 'failed' ELSE 'completed' END),
            ALTER COLUMN status SET DEFAULT 'queued',
            ALTER COLUMN status SET NOT NULL,
            ALTER COLUMN started_at DROP DEFAULT,
            ALTER COLUMN started_at TYPE timestamptz
                USING coalesce(started_at::timestamptz, completed_at::timestamptz, 'epoch'),
            ALTER COLUMN started_at SET DEFAULT pg_catalog.clock_timestamp(),
            ALTER COLUMN started_at SET NOT NULL,
            ALTER COLUMN completed_at DROP DEFAULT,
            ALTER COLUMN completed_at TYPE timestamptz USING completed_at::timestamptz,
            ALTER COLUMN completed_at DROP NOT NULL,
            ALTER COLUMN analysis_json TYPE jsonb USING analysis_json::jsonb,
            ALTER COLUMN analysis_json DROP NOT NULL,
            ALTER COLUMN review_json TYPE jsonb USING review_json::jsonb,
            ALTER COLUMN review_json DROP NOT NULL,
            ALTER COLUMN review_passed DROP DEFAULT,
            ALTER COLUMN review_passed DROP NOT NULL,
            ALTER COLUMN quality_score DROP DEFAULT,
            ALTER COLUMN quality_score TYPE numeric USING quality_score::numeric,
            ALTER COLUMN quality_score DROP NOT NULL,
            ALTER COLUMN error_message TYPE text USING error_message::text,
            ALTER COLUMN error_message DROP NOT NULL,
            ADD COLUMN models jsonb NOT NULL DEFAULT '{}',
            ADD COLUMN quality_note text,
            ADD COLUMN scored_at timestamptz,
            ADD COLUMN input jsonb,
            ADD COLUMN code_version text NOT NULL DEFAULT 'host',
            ADD COLUMN idempotency_key text UNIQUE,
            ADD COLUMN worker text,
            ADD COLUMN epoch integer NOT NULL DEFAULT 0,
            ADD COLUMN lease_until timestamptz,
            ADD COLUMN cancel_requested boolean NOT NULL DEFAULT false,
            ADD COLUMN attempts integer NOT NULL DEFAULT 0,
            ADD COLUMN max_attempts integer NOT NULL DEFAULT 5,
            ADD COLUMN run_at timestamptz NOT NULL DEFAULT pg_catalog.now()
        $changes$);
        UPDATE public.pipeline_runs r
           SET models = pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
                   'research', r.research_model, 'generate', r.generate_model, 'review', r.review_model)),
               lease_until = CASE WHEN r.status = 'running' THEN r.started_at + INTERVAL '1 hour' END,
               attempts = 1, max_attempts = 1;
        UPDATE public.pipeline_runs r
           SET status = 'failed', lease_until = NULL, completed_at = pg_catalog.now(),
               error_message = 'it began an hour ago or longer, and never ended'
         WHERE r.status = 'running' AND r.lease_until < pg_catalog.now();
    ELSIF EXISTS (SELECT FROM pg_catalog.pg_attribute a
                   WHERE a.attrelid = pg_catalog.to_regclass('public.pipeline_runs') AND a.attname = 'research_model'
                         AND a.attgenerated = 's') THEN
        ALTER TABLE public.pipeline_runs
            ALTER COLUMN research_model DROP EXPRESSION,
            ALTER COLUMN generate_model DROP EXPRESSION,
            ALTER COLUMN review_model DROP EXPRESSION,
            ALTER COLUMN input DROP NOT NULL,
            ALTER COLUMN quality_score TYPE numeric,
            ALTER COLUMN models SET DEFAULT '{}',
            ALTER COLUMN code_version SET DEFAULT 'host',
            ADD COLUMN scored_at timestamptz;
        UPDATE public.pipeline_runs r SET scored_at = r.completed_at WHERE r.quality_score IS NOT NULL;
    END IF;
END $$;

-- analysis_json and review_json belong together: the review is that of the stored draft. `input` has the bill's text,
-- which no list or report returns. `quality_score` is the share of the analysis that holds (see complete_run), until a
-- person scores it at `scored_at`.
--
-- A run without an input is one that the host's own code inserted, in the columns of the first schema, and updates by
-- itself: it has no owner here, and is failed if it is still running an hour after it began.
CREATE TABLE IF NOT EXISTS public.pipeline_runs (
    id               uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    bill_id          text NOT NULL,
    jurisdiction     text NOT NULL,
    models           jsonb NOT NULL DEFAULT '{}',
    research_model   text,
    generate_model   text,
    review_model     text,
    status           text NOT NULL DEFAULT 'queued',
    started_at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    completed_at     timestamptz,
    analysis_json    jsonb,
    review_json      jsonb,
    review_passed    boolean,
    quality_score    numeric,
    quality_note     text,
    scored_at        timestamptz,
    error_message    text,
    input            jsonb,
    code_version     text NOT NULL DEFAULT 'host',
    idempotency_key  text UNIQUE,
    worker           text,
    epoch            integer NOT NULL DEFAULT 0,
    lease_until      timestamptz,
    cancel_requested boolean NOT NULL DEFAULT false,
    attempts         integer NOT NULL DEFAULT 0,
    max_attempts     integer NOT NULL DEFAULT 5,
    -- When a queued run may be claimed.
    run_at           timestamptz NOT NULL DEFAULT pg_catalog.now(),
    -- Whom it asks: hosts of providers, or 'offline' for a scripted one. The same key is the same run only there.
    answered_by      text
);
ALTER TABLE public.pipeline_runs
    ADD COLUMN IF NOT EXISTS answered_by text,
    DROP CONSTRAINT IF EXISTS pipeline_runs_status,
    DROP CONSTRAINT IF EXISTS pipeline_runs_running_is_leased,
    DROP CONSTRAINT IF EXISTS pipeline_runs_end_is_dated,
    DROP CONSTRAINT IF EXISTS pipeline_runs_quality,
    -- Each run that is claimed or finished leaves a dead entry in the indexes of the queue and of the leases, where the
    -- next claim and the next sweep begin to read: vacuum after so many of them, however long the history is, and always
    -- in the indexes, which a vacuum leaves as they are where less than 2 % of the pages have dead rows.
    SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
         vacuum_index_cleanup = on);
SELECT public.llm_common_constrain('public.pipeline_runs', c.name, 'input IS NULL OR ' || c.condition) FROM (VALUES
    ('pipeline_runs_known_status', $$status IN ('queued', 'running', 'completed', 'failed', 'cancelled')$$),
    ('pipeline_runs_leased', $$(status = 'running') = (lease_until IS NOT NULL)$$),
    ('pipeline_runs_dated', $$(status IN ('completed', 'failed', 'cancelled')) = (completed_at IS NOT NULL)$$),
    ('pipeline_runs_scored', $$quality_score BETWEEN 0 AND 1$$)
) AS c (name, condition);
CREATE INDEX IF NOT EXISTS pipeline_runs_started ON public.pipeline_runs (started_at);
CREATE INDEX IF NOT EXISTS pipeline_runs_lease ON public.pipeline_runs (lease_until) WHERE status = 'running';
CREATE INDEX IF NOT EXISTS pipeline_runs_queue ON public.pipeline_runs (code_version, run_at, id) WHERE status = 'queued';

-- Fills what the host's INSERT leaves out or null.
CREATE OR REPLACE FUNCTION public.pipeline_host_run() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    NEW.id := coalesce(NEW.id, pg_catalog.gen_random_uuid());
    NEW.bill_id := coalesce(NEW.bill_id, '');
    NEW.jurisdiction := coalesce(NEW.jurisdiction, '');
    NEW.models := pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
        'research', NEW.research_model, 'generate', NEW.generate_model, 'review', NEW.review_model));
    NEW.status := coalesce(nullif(NEW.status, 'queued'), 'running');
    NEW.started_at := coalesce(NEW.started_at, pg_catalog.clock_timestamp());
    NEW.code_version := 'host';
    NEW.lease_until := CASE NEW.status WHEN 'running' THEN NEW.started_at + INTERVAL '1 hour' END;
    NEW.attempts := 1;
    NEW.max_attempts := 1;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER llm_common_host_row BEFORE INSERT ON public.pipeline_runs
    FOR EACH ROW WHEN (NEW.input IS NULL) EXECUTE FUNCTION public.pipeline_host_run();

DO $$
BEGIN
    IF EXISTS (SELECT FROM public.llm_common_tables() t WHERE t.name = 'pipeline_steps' AND t.state = 'earlier') THEN
        ALTER TABLE public.pipeline_steps
            ADD COLUMN IF NOT EXISTS model text,
            ADD COLUMN IF NOT EXISTS output jsonb;
        PERFORM public.llm_common_convert('public.pipeline_steps', '{step}', $changes$
            ALTER COLUMN id SET DEFAULT pg_catalog.gen_random_uuid(),
            ALTER COLUMN run_id DROP NOT NULL,
            ALTER COLUMN step DROP DEFAULT,
            ALTER COLUMN step TYPE text USING coalesce(step::text, ''),
            ALTER COLUMN step SET NOT NULL,
            ALTER COLUMN model TYPE text USING model::text,
            ALTER COLUMN model DROP NOT NULL,
            ALTER COLUMN output DROP DEFAULT,
            ALTER COLUMN output TYPE jsonb USING output::jsonb,
            ALTER COLUMN output DROP NOT NULL,
            ALTER COLUMN "timestamp" DROP DEFAULT,
            ALTER COLUMN "timestamp" TYPE timestamptz USING coalesce("timestamp"::timestamptz, 'epoch'),
            ALTER COLUMN "timestamp" SET DEFAULT pg_catalog.clock_timestamp(),
            ALTER COLUMN "timestamp" SET NOT NULL,
            ADD COLUMN key text,
            ADD COLUMN "position" integer NOT NULL DEFAULT 0,
            ADD COLUMN status text,
            ADD COLUMN code_version text NOT NULL DEFAULT 'host',
            ADD COLUMN epoch integer NOT NULL DEFAULT 0,
            ADD COLUMN reservation_id uuid,
            SET (fillfactor = 80)
        $changes$);
        UPDATE public.pipeline_steps s
           SET key = s.step || ':' || s.id, "position" = o.place,
               status = CASE WHEN s.output IS NULL THEN 'failed' ELSE 'completed' END
          FROM (SELECT b.id, pg_catalog.row_number() OVER (PARTITION BY b.run_id ORDER BY b."timestamp", b.id) AS place
                  FROM public.pipeline_steps b) o
         WHERE s.id = o.id;
        ALTER TABLE public.pipeline_steps
            ALTER COLUMN key SET NOT NULL,
            ALTER COLUMN status SET NOT NULL,
            ADD CONSTRAINT pipeline_steps_key UNIQUE (run_id, key);
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
                        WHERE k.conrelid = 'public.pipeline_steps'::regclass AND k.contype = 'f'
                              AND k.confrelid = 'public.pipeline_runs'::regclass) THEN
            ALTER TABLE public.pipeline_steps ADD CONSTRAINT pipeline_steps_run_id_fkey
                FOREIGN KEY (run_id) REFERENCES public.pipeline_runs ON DELETE CASCADE NOT VALID;
        END IF;
    END IF;
END $$;

-- `key` names a step within its run ('review:2'), `step` what kind it is ('review'). A failed step has no output, and
-- is paid for all the same. reservation_id is the id of its row in cost_tracking. A step of epoch 0 is one that the host
-- inserted, in the columns of the first schema.
CREATE TABLE IF NOT EXISTS public.pipeline_steps (
    id             uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    run_id         uuid REFERENCES public.pipeline_runs ON DELETE CASCADE,
    key            text NOT NULL,
    "position"     integer NOT NULL DEFAULT 0,
    step           text NOT NULL,
    model          text,
    status         text NOT NULL,
    output         jsonb,
    "timestamp"    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    code_version   text NOT NULL DEFAULT 'host',
    epoch          integer NOT NULL DEFAULT 0,
    reservation_id uuid,
    CONSTRAINT pipeline_steps_key UNIQUE (run_id, key)
) WITH (fillfactor = 80);
ALTER TABLE public.pipeline_steps
    ALTER COLUMN run_id DROP NOT NULL,
    ALTER COLUMN "position" SET DEFAULT 0,
    ALTER COLUMN code_version SET DEFAULT 'host',
    ALTER COLUMN epoch SET DEFAULT 0,
    DROP CONSTRAINT IF EXISTS pipeline_steps_output;
SELECT public.llm_common_constrain('public.pipeline_steps', c.name, c.condition) FROM (VALUES
    ('pipeline_steps_status', $$status IN ('completed', 'failed')$$),
    ('pipeline_steps_of_a_run', $$epoch = 0 OR run_id IS NOT NULL AND (status = 'completed') = (output IS NOT NULL)$$)
) AS c (name, condition);

-- Fills what the host's INSERT leaves out or null.
CREATE OR REPLACE FUNCTION public.pipeline_host_step() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    NEW.id := coalesce(NEW.id, pg_catalog.gen_random_uuid());
    NEW.step := coalesce(NEW.step, '');
    NEW.key := NEW.step || ':' || NEW.id;
    NEW."position" := 1 + coalesce((SELECT pg_catalog.max(s."position") FROM public.pipeline_steps s
                                     WHERE s.run_id = NEW.run_id), 0);
    NEW.status := CASE WHEN NEW.output IS NULL THEN 'failed' ELSE 'completed' END;
    NEW."timestamp" := coalesce(NEW."timestamp", pg_catalog.clock_timestamp());
    NEW.code_version := 'host';
    NEW.epoch := 0;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER llm_common_host_row BEFORE INSERT ON public.pipeline_steps
    FOR EACH ROW WHEN (NEW.key IS NULL) EXECUTE FUNCTION public.pipeline_host_step();

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

-- A run as hosts see it. `input`, the bill's whole text, is dropped before JSON is made of the row, not after.
CREATE OR REPLACE FUNCTION public.pipeline_run_json(run public.pipeline_runs) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    run.input := NULL;
    RETURN pg_catalog.to_jsonb(run) - 'input'
           || pg_catalog.jsonb_build_object('cost_nano', public.pipeline_cost_nano(run.id));
END $$;

CREATE OR REPLACE FUNCTION public.pipeline_unknown(run uuid) RETURNS void
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'LC004',
        MESSAGE = pg_catalog.format('run %s is not known; llm-common runs list shows those there are', run),
        DETAIL = pg_catalog.jsonb_build_object('run_id', run)::text;
END $$;

-- The run, locked. LC004 where there is none.
CREATE OR REPLACE FUNCTION public.pipeline_locked(run uuid) RETURNS public.pipeline_runs
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    found_run public.pipeline_runs;
BEGIN
    SELECT * INTO found_run FROM public.pipeline_runs r WHERE r.id = run FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM public.pipeline_unknown(run);
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
    IF run.input IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LC004',
            MESSAGE = pg_catalog.format('run %s is of the host''s own code, and cannot be taken up here', run.id),
            DETAIL = pg_catalog.jsonb_build_object('run_id', run.id)::text;
    ELSIF run.status = 'completed' THEN
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

-- The end of a locked run whose owner died once too often.
CREATE OR REPLACE FUNCTION public.pipeline_exhaust(run public.pipeline_runs) RETURNS public.pipeline_runs
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    UPDATE public.pipeline_runs r
       SET status = 'failed', lease_until = NULL, completed_at = pg_catalog.clock_timestamp(),
           error_message = CASE WHEN r.input IS NULL THEN 'it began an hour ago or longer, and never ended'
               ELSE pg_catalog.format(
                   'its worker stopped without a word %s times, the last one was %s; resume it once the cause is found',
                   r.attempts, r.worker) END
     WHERE r.id = (run).id
    RETURNING r
$$;

-- Why the run of a key is not the one that is wanted; null where it is. Runs of before do not say whom they asked.
CREATE OR REPLACE FUNCTION public.pipeline_key_refusal(known public.pipeline_runs, wanted public.pipeline_runs)
RETURNS text
LANGUAGE sql IMMUTABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT CASE
        WHEN (known.bill_id, known.jurisdiction, known.models, known.input)
             IS DISTINCT FROM (wanted.bill_id, wanted.jurisdiction, wanted.models, wanted.input)
        THEN pg_catalog.format(
            'idempotency key %L belongs to run %s of bill %L, whose text, models or settings are others; '
            'use a new key for a new analysis', known.idempotency_key, known.id, known.bill_id)
        WHEN known.answered_by <> wanted.answered_by
        THEN pg_catalog.format(
            'idempotency key %L belongs to run %s, which was answered by %s, not by %s; '
            'use a new key for a new analysis', known.idempotency_key, known.id, known.answered_by, wanted.answered_by)
    END
$$;

-- What Python calls ---------------------------------------------------------------------------------------------------

-- run: {bill_id, jurisdiction, models, input, code_version} and, where wanted, {idempotency_key, max_attempts,
-- answered_by}. The same idempotency key is the same run, which must then have the same input and ask the same hosts
-- (else LC002). Returns as pipeline_claim.
CREATE OR REPLACE FUNCTION public.start_run(run jsonb, worker text, lease_seconds double precision) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    wanted public.pipeline_runs := pg_catalog.jsonb_populate_record(NULL::public.pipeline_runs, run);
    known  public.pipeline_runs;
    refused text;
    result jsonb;
BEGIN
    INSERT INTO public.pipeline_runs AS r
        (bill_id, jurisdiction, models, research_model, generate_model, review_model, input, code_version,
         idempotency_key, max_attempts, answered_by)
    VALUES (wanted.bill_id, wanted.jurisdiction, wanted.models, wanted.models ->> 'research',
            wanted.models ->> 'generate', wanted.models ->> 'review', wanted.input, wanted.code_version,
            wanted.idempotency_key, coalesce(wanted.max_attempts, 5), wanted.answered_by)
    ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING * INTO known;
    IF NOT FOUND THEN
        SELECT * INTO known FROM public.pipeline_runs r WHERE r.idempotency_key = wanted.idempotency_key FOR UPDATE;
        refused := public.pipeline_key_refusal(known, wanted);
        IF refused IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = refused;
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
-- Only leases that have ended are read, and not those of all runs that are being worked on.
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

-- The queue: runs that wait for a worker, whoever and wherever it is.
--
-- A queued run is claimed by workers of its own code version only, the longest due first, and not before run_at. Workers
-- skip what another one is just claiming, so they never wait for each other; runs whose owners died come back by
-- sweep_stale_runs.
--
-- Locks are taken as before: the run, then whatever settle_cost takes. Who locks several runs takes them in the order of
-- their ids or keys, or skips those that are locked.

-- Parts ---------------------------------------------------------------------------------------------------------------

-- A claimed run for its worker, with the steps that this code finished.
CREATE OR REPLACE FUNCTION public.pipeline_handover(claimed public.pipeline_runs) RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.jsonb_build_object(
        'state', 'claimed', 'run', public.pipeline_run_json(claimed), 'input', (claimed).input,
        'steps', (SELECT coalesce(pg_catalog.jsonb_object_agg(s.key, s.output), '{}') FROM public.pipeline_steps s
                   WHERE s.run_id = (claimed).id AND s.status = 'completed' AND s.code_version = (claimed).code_version))
$$;

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

-- runs: [{bill_id, jurisdiction, models, input, code_version, max_attempts, idempotency_key, answered_by}, ...]. The
-- same key is the same run: one that failed or was cancelled waits again with all its attempts, one that waits does so for this code.
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
    refused text;
BEGIN
    -- In the order of the keys, so that two who enqueue the same ones do not wait for each other in a circle.
    FOR item, place IN
        SELECT e.value, e.ordinality FROM pg_catalog.jsonb_array_elements(runs) WITH ORDINALITY e
         ORDER BY e.value ->> 'idempotency_key', e.ordinality
    LOOP
        wanted := pg_catalog.jsonb_populate_record(NULL::public.pipeline_runs, item);
        INSERT INTO public.pipeline_runs AS r
            (bill_id, jurisdiction, models, research_model, generate_model, review_model, input, code_version,
             idempotency_key, max_attempts, answered_by, run_at)
        VALUES (wanted.bill_id, wanted.jurisdiction, wanted.models, wanted.models ->> 'research',
                wanted.models ->> 'generate', wanted.models ->> 'review', wanted.input, wanted.code_version,
                wanted.idempotency_key, coalesce(wanted.max_attempts, 5), wanted.answered_by,
                -- Claimed in the order in which they were given.
                moment + place * interval '1 microsecond')
        ON CONFLICT (idempotency_key) DO NOTHING
        RETURNING * INTO known;
        refused := NULL;
        IF NOT FOUND THEN
            SELECT * INTO known FROM public.pipeline_runs r WHERE r.idempotency_key = wanted.idempotency_key;
            refused := public.pipeline_key_refusal(known, wanted);
        END IF;
        IF refused IS NULL AND (known.status IN ('failed', 'cancelled')
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
        answers[place] := pg_catalog.jsonb_build_object('id', known.id, 'status', known.status, 'refused', refused);
    END LOOP;
    RETURN pg_catalog.to_jsonb(answers);
END $$;

-- Up to max_runs of the runs that are due for this code, the longest due first. Returns {"runs": [as pipeline_handover],
-- "wait_seconds"}: until the next one is due, null where none waits for this code.
-- The look at what is due next begins where the claim ended. It is planned once for each connection: from a long queue
-- it would be planned anew each time, for the same index scan that stops at its limit, at a fifth of the claim's cost.
CREATE OR REPLACE FUNCTION public.claim_runs(
    worker text, code_version text, max_runs integer, lease_seconds double precision
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET plan_cache_mode = force_generic_plan AS $$
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
                  FROM public.pipeline_runs r WHERE r.status = 'running' AND r.worker IS NOT NULL
                 GROUP BY r.worker, r.code_version) w));
END $$;

-- What people and programs read of runs, and what people think of them.

-- The run with its steps, in their order, without the bill's text and the steps' outputs; and with what it was charged
-- beside them, so that steps and charges add up to its cost: searches, and calls that were cut, failed or made again.
CREATE OR REPLACE FUNCTION public.get_run(run_id uuid) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    known public.pipeline_runs;
BEGIN
    SELECT * INTO known FROM public.pipeline_runs r WHERE r.id = run_id;
    IF NOT FOUND THEN
        PERFORM public.pipeline_unknown(run_id);
    END IF;
    RETURN public.pipeline_run_json(known) || pg_catalog.jsonb_build_object('steps', (
        SELECT coalesce(pg_catalog.jsonb_agg(
                   pg_catalog.jsonb_build_object(
                       'key', s.key, 'step', s.step, 'model', s.model, 'status', s.status, 'timestamp', s."timestamp",
                       'cost_nano', (c.cost_usd * 1000000000)::bigint, 'tokens_used', c.tokens_used,
                       'latency_ms', c.latency_ms)
                   ORDER BY s."position"), '[]')
          FROM public.pipeline_steps s LEFT JOIN public.cost_tracking c ON c.id = s.reservation_id
         WHERE s.run_id = known.id),
    'charges', (
        SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(o) ORDER BY o.kind, o.step, o.model, o.status), '[]')
          FROM (SELECT c.kind, c.step, c.model, c.status, pg_catalog.sum(c.calls)::bigint AS calls,
                       (pg_catalog.sum(c.cost_usd) * 1000000000)::bigint AS cost_nano
                  FROM public.cost_tracking c
                 WHERE c.run_id = known.id::text
                       AND NOT EXISTS (SELECT FROM public.pipeline_steps s
                                        WHERE s.run_id = known.id AND s.reservation_id = c.id)
                 GROUP BY c.kind, c.step, c.model, c.status) o));
END $$;

-- wanted: {status, bill_id, limit}, each as one likes. The latest first, without their analyses.
CREATE OR REPLACE FUNCTION public.list_runs(wanted jsonb DEFAULT '{}') RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT coalesce(pg_catalog.jsonb_agg(public.pipeline_run_json(latest) - '{analysis_json,review_json}'::text[]
                                         ORDER BY (latest).started_at DESC), '[]')
      FROM (SELECT r AS latest FROM public.pipeline_runs r
             WHERE (wanted ->> 'status' IS NULL OR r.status = wanted ->> 'status')
                   AND (wanted ->> 'bill_id' IS NULL OR r.bill_id = wanted ->> 'bill_id')
             ORDER BY r.started_at DESC
             LIMIT LEAST(coalesce((wanted ->> 'limit')::integer, 50), 1000)) found_runs
$$;

-- What a person thinks of the analysis, from 0 to 1. Returns the run.
CREATE OR REPLACE FUNCTION public.score_run(run_id uuid, quality double precision, note text DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    known public.pipeline_runs := public.pipeline_locked(run_id);
BEGIN
    IF (quality BETWEEN 0 AND 1) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002',
            MESSAGE = pg_catalog.format('a quality score is from 0 to 1, not %s', coalesce(quality::text, 'nothing'));
    END IF;
    UPDATE public.pipeline_runs r
       SET quality_score = quality, quality_note = note, scored_at = pg_catalog.clock_timestamp()
     WHERE r.id = known.id RETURNING * INTO known;
    RETURN public.pipeline_run_json(known);
END $$;

SELECT public.llm_common_make_room('compare_models');

-- For people: models next to each other, over the runs that started from start_date to end_date (UTC, both included).
-- Costs and tokens are those of the model's own calls; `step` leaves only one step's calls.
CREATE OR REPLACE FUNCTION public.compare_models(start_date date, end_date date, step text DEFAULT NULL)
RETURNS TABLE (
    model text, runs bigint, pass_rate numeric, avg_quality numeric, cost_per_run numeric, tokens_per_run numeric,
    p50_latency_ms bigint, p95_latency_ms bigint
)
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    WITH calls AS (
        SELECT c.model, r.id, r.review_passed, r.quality_score, c.cost_usd, c.tokens_used, c.latency_ms
          FROM public.pipeline_runs r JOIN public.cost_tracking c ON c.run_id = r.id::text
         WHERE r.started_at >= compare_models.start_date::timestamp AT TIME ZONE 'UTC'
               AND r.started_at < (compare_models.end_date + 1)::timestamp AT TIME ZONE 'UTC'
               AND c.kind = 'chat' AND (compare_models.step IS NULL OR c.step = compare_models.step)
    ), by_run AS (
        SELECT c.model, c.id, c.review_passed, c.quality_score,
               pg_catalog.sum(c.cost_usd) AS cost_usd, pg_catalog.sum(c.tokens_used) AS tokens
          FROM calls c GROUP BY c.model, c.id, c.review_passed, c.quality_score
    ), latency AS (
        SELECT c.model,
               pg_catalog.percentile_disc(0.5) WITHIN GROUP (ORDER BY c.latency_ms) AS p50,
               pg_catalog.percentile_disc(0.95) WITHIN GROUP (ORDER BY c.latency_ms) AS p95
          FROM calls c GROUP BY c.model
    )
    SELECT b.model, pg_catalog.count(*),
           pg_catalog.round(pg_catalog.avg(b.review_passed::integer), 3),
           pg_catalog.round(pg_catalog.avg(b.quality_score)::numeric, 3),
           pg_catalog.round(pg_catalog.avg(b.cost_usd), 9),
           pg_catalog.round(pg_catalog.avg(b.tokens), 1), l.p50, l.p95
      FROM by_run b JOIN latency l ON l.model = b.model
     GROUP BY b.model, l.p50, l.p95
     ORDER BY b.model
$$;

-- Pipelines next to each other: old code against new, one combination of models against another. Reports for people
-- (compare_pipelines) and for `llm-common compare` (compare_runs), over the same columns.

-- One row for each spec, code version and combination of models among these runs, in the order of their first run. Runs
-- that are still at work or wait are in none of the figures.
--
-- failed          those that ended without an analysis (cancelled ones too); cost_per_run has what they cost as well
-- insufficient    completed ones that found no claim to be supported
-- pass_rate       the share of completed ones whose last review passed
-- avg_quality     of the scores that people gave (score_run); scored says how many
-- avg_left_out    how many claims were left out of an analysis because their quotes or figures did not hold
-- seconds         from the start of a completed run to its end
CREATE OR REPLACE FUNCTION public.pipeline_comparison(run_ids uuid[])
RETURNS TABLE (
    spec text, code_version text, models jsonb, first_run timestamptz, runs bigint, completed bigint, failed bigint,
    insufficient bigint, pass_rate numeric, avg_quality numeric, scored bigint, avg_left_out numeric,
    avg_rounds numeric, cost_per_run numeric, tokens_per_run numeric, p50_seconds numeric, p95_seconds numeric
)
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    WITH ended AS (
        SELECT coalesce(r.input ->> 'spec', 'legislation') AS spec, r.code_version, r.models, r.started_at,
               r.status = 'completed' AS done, r.analysis_json ->> 'status' = 'insufficient_evidence' AS insufficient,
               r.review_passed, CASE WHEN r.scored_at IS NOT NULL THEN r.quality_score END AS quality_score,
               CASE WHEN r.input IS NOT NULL
                    THEN pg_catalog.jsonb_array_length(r.analysis_json -> 'unsupported') END AS left_out,
               CASE WHEN r.input IS NOT NULL THEN (r.analysis_json ->> 'rounds')::integer END AS rounds,
               paid.cost_usd, paid.tokens,
               CASE WHEN r.status = 'completed' THEN EXTRACT(epoch FROM r.completed_at - r.started_at) END AS seconds
          FROM public.pipeline_runs r
          -- What a run of the host's own code cost nobody knows, and its analysis has a form of its own.
          LEFT JOIN LATERAL (
               SELECT coalesce(pg_catalog.sum(c.cost_usd), 0) AS cost_usd,
                      coalesce(pg_catalog.sum(c.tokens_used), 0) AS tokens
                 FROM public.cost_tracking c WHERE c.run_id = r.id::text HAVING r.input IS NOT NULL) paid ON true
         WHERE r.id = ANY (run_ids) AND r.status IN ('completed', 'failed', 'cancelled')
    )
    SELECT e.spec, e.code_version, e.models, pg_catalog.min(e.started_at), pg_catalog.count(*),
           pg_catalog.count(*) FILTER (WHERE e.done), pg_catalog.count(*) FILTER (WHERE NOT e.done),
           pg_catalog.count(*) FILTER (WHERE e.done AND e.insufficient),
           pg_catalog.round(pg_catalog.avg(e.review_passed::integer) FILTER (WHERE e.done), 3),
           pg_catalog.round(pg_catalog.avg(e.quality_score)::numeric, 3), pg_catalog.count(e.quality_score),
           pg_catalog.round(pg_catalog.avg(e.left_out) FILTER (WHERE e.done), 2),
           pg_catalog.round(pg_catalog.avg(e.rounds) FILTER (WHERE e.done), 2),
           pg_catalog.round(pg_catalog.avg(e.cost_usd), 9), pg_catalog.round(pg_catalog.avg(e.tokens), 1),
           pg_catalog.round((pg_catalog.percentile_cont(0.5) WITHIN GROUP (ORDER BY e.seconds))::numeric, 3),
           pg_catalog.round((pg_catalog.percentile_cont(0.95) WITHIN GROUP (ORDER BY e.seconds))::numeric, 3)
      FROM ended e
     GROUP BY e.spec, e.code_version, e.models
     ORDER BY pg_catalog.min(e.started_at), e.spec, e.code_version, e.models
$$;

-- For people: the runs that started from start_date to end_date (UTC, both included). With shared_only only subjects
-- (bill and jurisdiction) that each of the compared ones completed, so that nobody wins by having had the easier bills.
CREATE OR REPLACE FUNCTION public.compare_pipelines(
    start_date date, end_date date, spec text DEFAULT 'legislation', shared_only boolean DEFAULT false
)
RETURNS TABLE (
    code_version text, models jsonb, first_run timestamptz, runs bigint, completed bigint, failed bigint,
    insufficient bigint, pass_rate numeric, avg_quality numeric, scored bigint, avg_left_out numeric,
    avg_rounds numeric, cost_per_run numeric, tokens_per_run numeric, p50_seconds numeric, p95_seconds numeric
)
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
#variable_conflict use_column
BEGIN
    IF (start_date <= end_date) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = pg_catalog.format(
            'start_date %s must not be after end_date %s', start_date, end_date);
    END IF;
    RETURN QUERY
        WITH wanted AS MATERIALIZED (
            SELECT r.id, r.bill_id, r.jurisdiction, r.status,
                   pg_catalog.dense_rank() OVER (ORDER BY r.code_version, r.models) AS contestant
              FROM public.pipeline_runs r
             WHERE r.started_at >= compare_pipelines.start_date::timestamp AT TIME ZONE 'UTC'
                   AND r.started_at < (compare_pipelines.end_date + 1)::timestamp AT TIME ZONE 'UTC'
                   AND coalesce(r.input ->> 'spec', 'legislation') = compare_pipelines.spec
                   AND r.status IN ('completed', 'failed', 'cancelled')
        ), shared AS (
            SELECT w.bill_id, w.jurisdiction FROM wanted w WHERE w.status = 'completed'
             GROUP BY w.bill_id, w.jurisdiction
            HAVING pg_catalog.count(DISTINCT w.contestant) = (SELECT pg_catalog.max(a.contestant) FROM wanted a)
        )
        SELECT c.code_version, c.models, c.first_run, c.runs, c.completed, c.failed, c.insufficient, c.pass_rate,
               c.avg_quality, c.scored, c.avg_left_out, c.avg_rounds, c.cost_per_run, c.tokens_per_run, c.p50_seconds,
               c.p95_seconds
          FROM public.pipeline_comparison(ARRAY(
               SELECT w.id FROM wanted w
                WHERE NOT compare_pipelines.shared_only
                      OR (w.bill_id, w.jurisdiction) IN (SELECT s.bill_id, s.jurisdiction FROM shared s))) c;
END $$;

-- What Python calls: run_ids is a list of ids. Returns the rows of pipeline_comparison.
CREATE OR REPLACE FUNCTION public.compare_runs(run_ids jsonb) RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT coalesce(pg_catalog.jsonb_agg(
               pg_catalog.to_jsonb(c) - 'cost_per_run'
               || pg_catalog.jsonb_build_object('cost_per_run_nano', (c.cost_per_run * 1000000000)::bigint)
               ORDER BY c.first_run, c.spec, c.code_version, c.models), '[]')
      FROM public.pipeline_comparison(
           ARRAY(SELECT e.value::uuid FROM pg_catalog.jsonb_array_elements_text(run_ids) e)) c
$$;

SELECT public.llm_common_secure_functions(ARRAY[
    'pipeline_host_run', 'pipeline_host_step', 'pipeline_lease_end', 'pipeline_cost_nano', 'pipeline_run_json', 'pipeline_unknown', 'pipeline_locked', 'pipeline_hold',
    'pipeline_store', 'pipeline_claim', 'pipeline_exhaust', 'start_run', 'resume_run', 'renew_run_lease',
    'finish_step', 'save_step', 'complete_run', 'stop_run', 'request_cancel', 'sweep_stale_runs',
    'pipeline_handover', 'pipeline_put_back', 'pipeline_key_refusal', 'enqueue_runs', 'claim_runs', 'take_run', 'renew_run_leases',
    'release_run', 'retry_run', 'queue_status', 'get_run', 'list_runs', 'score_run', 'compare_models',
    'pipeline_comparison', 'compare_pipelines', 'compare_runs']);

NOTIFY pgrst, 'reload schema';
SELECT public.llm_common_record('20261201100500_pipeline.sql', '0a7267e22ce100a54a55d7c13e9c72ef4463a2048b05c23872b648f8005d7eb8');
COMMIT;
