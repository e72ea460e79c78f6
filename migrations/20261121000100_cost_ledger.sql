-- The ledger: what every paid call cost, and budgets that cannot be passed.
--
-- A call is reserved at its worst case before it is sent and settled with the truth afterwards. At any moment, under
-- the project's gate (one advisory transaction lock per project),
--   a window's spent    = the sum of its rows in cost_tracking,
--   a window's reserved = the sum of its rows in cost_reservations,
--   a day's rollups     = the sums of its rows in cost_tracking,
-- and `check_cost_ledger()` proves it. A reservation whose owner died is charged at its bound when it expires, and
-- replaced by the truth if that still arrives.
--
-- Locks are always taken in this order, so that nobody can wait in a circle: the reservation's or the call's row, then
-- the gate (of several projects: by hash), then windows and rollup. Whoever holds a gate skips rows that others locked.
--
-- Money is in nano-dollars (1e-9 USD) as bigint, and in dollars as NUMERIC(18,9) where people read it.

-- A project without a row here has UTC days.
CREATE TABLE IF NOT EXISTS public.cost_projects (
    project   text PRIMARY KEY,
    time_zone text NOT NULL
);

-- One row per call. A reserved call keeps the reservation's id, and the day and time at which it was reserved.
-- input_tokens are fresh ones: the cache buckets are not in it; reasoning is in output_tokens, the 1h writes are in
-- cache_write_tokens. bound_usd is what was set aside, null where nothing was.
CREATE TABLE IF NOT EXISTS public.cost_tracking (
    id                    uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    project               text NOT NULL DEFAULT 'default',
    day                   date NOT NULL DEFAULT (pg_catalog.now() AT TIME ZONE 'UTC')::date,
    "timestamp"           timestamptz NOT NULL DEFAULT pg_catalog.now(),
    kind                  text NOT NULL DEFAULT 'external',
    provider              text NOT NULL DEFAULT '',
    model                 text NOT NULL,
    model_answered        text,
    step                  text,
    run_id                text,
    user_id               text,
    tags                  jsonb NOT NULL DEFAULT '{}',
    input_tokens          bigint NOT NULL DEFAULT 0,
    cache_read_tokens     bigint NOT NULL DEFAULT 0,
    cache_write_tokens    bigint NOT NULL DEFAULT 0,
    cache_write_1h_tokens bigint NOT NULL DEFAULT 0,
    output_tokens         bigint NOT NULL DEFAULT 0,
    reasoning_tokens      bigint NOT NULL DEFAULT 0,
    tokens_used           bigint NOT NULL DEFAULT 0,
    cost_usd              numeric(18,9) NOT NULL,
    bound_usd             numeric(18,9),
    price_source          text NOT NULL DEFAULT 'override',
    status                text NOT NULL DEFAULT 'ok',
    latency_ms            bigint,
    attempts              integer NOT NULL DEFAULT 1,
    idempotency_key       text,
    CONSTRAINT cost_tracking_names_its_payer CHECK (project <> '' AND model <> ''),
    CONSTRAINT cost_tracking_cost_is_an_amount CHECK (cost_usd >= 0 AND cost_usd <> 'NaN'),
    CONSTRAINT cost_tracking_tokens_are_counts CHECK (
        LEAST(input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens,
              reasoning_tokens, tokens_used) >= 0
    ),
    CONSTRAINT cost_tracking_kind CHECK (kind IN ('chat', 'embedding', 'search', 'external', 'cache_hit')),
    CONSTRAINT cost_tracking_price_source CHECK (price_source IN ('provider', 'override', 'map', 'estimate')),
    CONSTRAINT cost_tracking_status CHECK (status IN ('ok', 'failed', 'cancelled', 'cut', 'expired')),
    CONSTRAINT cost_tracking_tags_are_pairs CHECK (pg_catalog.jsonb_typeof(tags) = 'object')
);
CREATE UNIQUE INDEX IF NOT EXISTS cost_tracking_key ON public.cost_tracking (project, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
-- Rows arrive in the order of time: a block range index answers for a day at a thousandth of a btree's size.
CREATE INDEX IF NOT EXISTS cost_tracking_time ON public.cost_tracking USING brin (day, "timestamp")
    WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX IF NOT EXISTS cost_tracking_run ON public.cost_tracking (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS cost_tracking_tags ON public.cost_tracking USING gin (tags jsonb_path_ops)
    WHERE tags <> '{}'::jsonb;

-- Only calls in flight: settling deletes. `model` is the one asked last; `scopes` and `limits` are those of all the models
-- that were asked, for any of them may be the one that the call is paid to. `extension` is the last growth of the bound,
-- so that growing twice by one request is not possible.
CREATE TABLE IF NOT EXISTS public.cost_reservations (
    id              uuid PRIMARY KEY,
    project         text NOT NULL,
    day             date NOT NULL,
    kind            text NOT NULL,
    provider        text NOT NULL,
    model           text NOT NULL,
    step            text,
    run_id          text,
    user_id         text,
    tags            jsonb NOT NULL,
    scopes          text[] NOT NULL,
    limits          jsonb NOT NULL,
    bound_nano      bigint NOT NULL,
    extension       uuid,
    hold            interval NOT NULL,
    reserved_at     timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    idempotency_key text,
    CONSTRAINT cost_reservations_bound_is_an_amount CHECK (bound_nano BETWEEN 0 AND 999999999999999999)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE UNIQUE INDEX IF NOT EXISTS cost_reservations_key ON public.cost_reservations (project, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS cost_reservations_expiry ON public.cost_reservations (project, expires_at);

-- Counters of the windows that some budget looks at. A window that is opened late starts from the rows there are.
-- limit_nano is the limit as last seen, null while nobody limits the window. over_nano is the part of spent_nano that
-- calls cost above what was set aside for them: a wrong estimate shows instead of being hidden.
CREATE TABLE IF NOT EXISTS public.budget_windows (
    project       text NOT NULL,
    scope         text NOT NULL,
    starts        date NOT NULL,
    "window"      text NOT NULL,
    limit_nano    bigint,
    reserved_nano bigint NOT NULL,
    spent_nano    bigint NOT NULL,
    over_nano     bigint NOT NULL,
    PRIMARY KEY (project, scope, starts, "window"),
    CONSTRAINT budget_windows_window CHECK ("window" IN ('day', 'month', 'total')),
    CONSTRAINT budget_windows_amounts CHECK (LEAST(reserved_nano, spent_nano, over_nano) >= 0)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- Kept by the transaction that writes the row, so that reports need not read the rows. `failed` are the calls that did
-- not end well though they may have cost something.
CREATE TABLE IF NOT EXISTS public.cost_daily (
    day        date NOT NULL,
    project    text NOT NULL,
    provider   text NOT NULL,
    model      text NOT NULL,
    step       text NOT NULL,
    calls      bigint NOT NULL,
    failed     bigint NOT NULL,
    cache_hits bigint NOT NULL,
    tokens     bigint NOT NULL,
    cost_nano  bigint NOT NULL,
    over_nano  bigint NOT NULL,
    PRIMARY KEY (day, project, provider, model, step)
) WITH (fillfactor = 50);

-- The same for the calls that name a user; those that name none are the rest of cost_daily.
CREATE TABLE IF NOT EXISTS public.cost_daily_users (
    day        date NOT NULL,
    project    text NOT NULL,
    user_id    text NOT NULL,
    calls      bigint NOT NULL,
    failed     bigint NOT NULL,
    cache_hits bigint NOT NULL,
    tokens     bigint NOT NULL,
    cost_nano  bigint NOT NULL,
    over_nano  bigint NOT NULL,
    PRIMARY KEY (day, project, user_id)
) WITH (fillfactor = 50);
CREATE INDEX IF NOT EXISTS cost_daily_users_user ON public.cost_daily_users (project, user_id, day);

-- One row per window and threshold, whoever crossed it first.
CREATE TABLE IF NOT EXISTS public.cost_alerts (
    project    text NOT NULL,
    scope      text NOT NULL,
    starts     date NOT NULL,
    "window"   text NOT NULL,
    threshold  numeric NOT NULL,
    limit_nano bigint NOT NULL,
    spent_nano bigint NOT NULL,
    fired_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (project, scope, starts, "window", threshold)
);

SELECT public.llm_common_secure_table('public.cost_projects');
SELECT public.llm_common_secure_table('public.cost_tracking');
SELECT public.llm_common_secure_table('public.cost_reservations');
SELECT public.llm_common_secure_table('public.budget_windows');
SELECT public.llm_common_secure_table('public.cost_daily');
SELECT public.llm_common_secure_table('public.cost_daily_users');
SELECT public.llm_common_secure_table('public.cost_alerts');

-- Days, windows, scopes -----------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION public.cost_time_zone(of_project text) RETURNS text
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT coalesce((SELECT p.time_zone FROM public.cost_projects p WHERE p.project = of_project), 'UTC')
$$;

CREATE OR REPLACE FUNCTION public.cost_day(of_project text, at timestamptz) RETURNS date
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT (at AT TIME ZONE coalesce(
        (SELECT p.time_zone FROM public.cost_projects p WHERE p.project = of_project), 'UTC'))::date
$$;

-- Calls that are already recorded keep their day.
CREATE OR REPLACE FUNCTION public.set_cost_time_zone(project text, time_zone text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_timezone_names z WHERE z.name = set_cost_time_zone.time_zone) THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = pg_catalog.format(
            'time zone %L is not known; use a name such as UTC or America/New_York', time_zone);
    END IF;
    INSERT INTO public.cost_projects AS p (project, time_zone)
    VALUES (set_cost_time_zone.project, set_cost_time_zone.time_zone)
    ON CONFLICT ON CONSTRAINT cost_projects_pkey DO UPDATE SET time_zone = excluded.time_zone;
    RETURN true;
END $$;

-- The first day of the window that a day lies in; a total began when nobody was there.
CREATE OR REPLACE FUNCTION public.budget_starts(of_window text, on_day date) RETURNS date
LANGUAGE sql IMMUTABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT CASE of_window WHEN 'day' THEN on_day
                          WHEN 'month' THEN pg_catalog.date_trunc('month', on_day::timestamp)::date
                          WHEN 'total' THEN DATE '0001-01-01' END
$$;

-- The first day after the window.
CREATE OR REPLACE FUNCTION public.budget_ends(of_window text, starts date) RETURNS date
LANGUAGE sql IMMUTABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT CASE of_window WHEN 'day' THEN starts + 1
                          WHEN 'month' THEN (starts + INTERVAL '1 month')::date
                          WHEN 'total' THEN DATE 'infinity' END
$$;

-- When a window gives way to the next, as ISO 8601; null for a total. A day of 23 or 25 hours ends at its midnight.
CREATE OR REPLACE FUNCTION public.budget_resets_at(of_project text, of_window text, starts date) RETURNS text
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT CASE WHEN of_window <> 'total' THEN pg_catalog.to_char(
        public.budget_ends(of_window, starts)::timestamp AT TIME ZONE public.cost_time_zone(of_project)
            AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"') END
$$;

-- Whom a call's cost counts for, by the keys that budgets use.
CREATE OR REPLACE FUNCTION public.cost_scopes(user_id text, model text, run_id text, tags jsonb) RETURNS text[]
LANGUAGE sql IMMUTABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.array_remove(ARRAY['project', 'user:' || user_id, 'model:' || model, 'run:' || run_id], NULL)
           || ARRAY(SELECT 'tag:' || t.key || '=' || t.value FROM pg_catalog.jsonb_each_text(tags) t ORDER BY 1)
$$;

CREATE OR REPLACE FUNCTION public.cost_gate(of_project text) RETURNS void
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.pg_advisory_xact_lock(421, pg_catalog.hashtext(of_project))
$$;

CREATE OR REPLACE FUNCTION public.cost_spent_today(of_project text) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    today date := public.cost_day(of_project, pg_catalog.clock_timestamp());
BEGIN
    RETURN coalesce(
        (SELECT w.spent_nano FROM public.budget_windows w
            WHERE w.project = of_project AND w.scope = 'project' AND w.starts = today AND w."window" = 'day'),
        (SELECT pg_catalog.sum(d.cost_nano)::bigint FROM public.cost_daily d
            WHERE d.project = of_project AND d.day = today),
        0);
END $$;

CREATE OR REPLACE FUNCTION public.cost_nano(cost_usd numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE SECURITY INVOKER SET search_path = '' AS $$ SELECT (cost_usd * 1000000000)::bigint $$;

-- What a call cost above what was set aside for it.
CREATE OR REPLACE FUNCTION public.cost_over(paid public.cost_tracking) RETURNS bigint
LANGUAGE sql IMMUTABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT GREATEST(public.cost_nano((paid).cost_usd - coalesce((paid).bound_usd, (paid).cost_usd)), 0)
$$;

DO $$
DECLARE
    mine regprocedure;
BEGIN
    FOR mine IN
        SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
            'cost_time_zone', 'cost_day', 'set_cost_time_zone', 'budget_starts',
            'budget_ends', 'budget_resets_at', 'cost_scopes', 'cost_gate',
            'cost_spent_today', 'cost_nano', 'cost_over')
    LOOP
        PERFORM public.llm_common_secure_function(mine);
    END LOOP;
END $$;

NOTIFY pgrst, 'reload schema';
