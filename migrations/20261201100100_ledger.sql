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

BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SELECT public.llm_common_look_first();

-- A project without a row here has UTC days.
CREATE TABLE IF NOT EXISTS public.cost_projects (
    project   text PRIMARY KEY,
    time_zone text NOT NULL
);

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

-- A table of the first schema becomes the one below: one rewrite, whose generated column `day` is a plain one afterwards.
-- Its rows are of kind `host`, and are counted here as a trigger counts those that are still to come.
DO $$
BEGIN
    IF EXISTS (SELECT FROM public.llm_common_tables() t WHERE t.name = 'cost_tracking' AND t.state = 'earlier') THEN
        ALTER TABLE public.cost_tracking
            ADD COLUMN IF NOT EXISTS step text,
            ADD COLUMN IF NOT EXISTS tokens_used bigint,
            ADD COLUMN IF NOT EXISTS project text DEFAULT 'default';
        PERFORM public.llm_common_convert('public.cost_tracking', '{}', $changes$
            ALTER COLUMN id SET DEFAULT pg_catalog.gen_random_uuid(),
            ALTER COLUMN project TYPE text USING coalesce(project::text, 'default'),
            ALTER COLUMN project SET NOT NULL,
            ALTER COLUMN "timestamp" DROP DEFAULT,
            ALTER COLUMN "timestamp" TYPE timestamptz USING coalesce("timestamp"::timestamptz, 'epoch'),
            ALTER COLUMN "timestamp" SET DEFAULT pg_catalog.now(),
            ALTER COLUMN "timestamp" SET NOT NULL,
            ALTER COLUMN model TYPE text USING coalesce(model::text, 'unknown'),
            ALTER COLUMN model SET NOT NULL,
            ALTER COLUMN step TYPE text USING step::text,
            ALTER COLUMN step DROP NOT NULL,
            ALTER COLUMN tokens_used DROP DEFAULT,
            ALTER COLUMN tokens_used TYPE bigint USING coalesce(tokens_used::bigint, 0),
            ALTER COLUMN tokens_used SET DEFAULT 0,
            ALTER COLUMN tokens_used SET NOT NULL,
            ALTER COLUMN cost_usd DROP DEFAULT,
            ALTER COLUMN cost_usd TYPE numeric(18,9) USING coalesce(cost_usd::numeric, 0),
            ALTER COLUMN cost_usd SET NOT NULL,
            ADD COLUMN day date NOT NULL GENERATED ALWAYS AS (("timestamp" AT TIME ZONE 'UTC')::date) STORED,
            ADD COLUMN kind text NOT NULL DEFAULT 'host',
            ADD COLUMN provider text NOT NULL DEFAULT '',
            ADD COLUMN model_answered text,
            ADD COLUMN run_id text,
            ADD COLUMN user_id text,
            ADD COLUMN tags jsonb NOT NULL DEFAULT '{}',
            ADD COLUMN input_tokens bigint NOT NULL DEFAULT 0,
            ADD COLUMN cache_read_tokens bigint NOT NULL DEFAULT 0,
            ADD COLUMN cache_write_tokens bigint NOT NULL DEFAULT 0,
            ADD COLUMN cache_write_1h_tokens bigint NOT NULL DEFAULT 0,
            ADD COLUMN output_tokens bigint NOT NULL DEFAULT 0,
            ADD COLUMN reasoning_tokens bigint NOT NULL DEFAULT 0,
            ADD COLUMN bound_usd numeric(18,9),
            ADD COLUMN price_source text NOT NULL DEFAULT 'override',
            ADD COLUMN status text NOT NULL DEFAULT 'ok',
            ADD COLUMN latency_ms bigint,
            ADD COLUMN attempts integer NOT NULL DEFAULT 1,
            ADD COLUMN idempotency_key text,
            ADD COLUMN calls bigint NOT NULL DEFAULT 1
        $changes$);
        ALTER TABLE public.cost_tracking ALTER COLUMN day DROP EXPRESSION;
        INSERT INTO public.cost_daily
            (day, project, provider, model, step, calls, failed, cache_hits, tokens, cost_nano, over_nano)
        SELECT c.day, c.project, '', c.model, coalesce(c.step, ''), count(*), 0, 0, sum(c.tokens_used),
               sum(CASE WHEN c.cost_usd > 0 AND c.cost_usd <> 'NaN' THEN c.cost_usd ELSE 0 END) * 1000000000, 0
          FROM public.cost_tracking c GROUP BY c.day, c.project, c.model, coalesce(c.step, '');
    END IF;
END $$;

-- One row per call. A reserved call keeps the reservation's id, and the day and time at which it was reserved.
-- input_tokens are fresh ones: the cache buckets are not in it; reasoning is in output_tokens, the 1h writes are in
-- cache_write_tokens. bound_usd is what was set aside, null where nothing was.
--
-- Whoever writes through the functions below gives the day. A row without one is a host's own INSERT, in the columns of
-- the first schema: a trigger makes it kind `host`, and another one counts it, so that it is in reports and budgets too.
-- It is taken as it comes: a cost that is no amount (negative, NaN) counts as nothing. What the host changes or deletes
-- afterwards stays counted.
CREATE TABLE IF NOT EXISTS public.cost_tracking (
    id                    uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    project               text NOT NULL DEFAULT 'default',
    day                   date NOT NULL,
    "timestamp"           timestamptz NOT NULL DEFAULT pg_catalog.now(),
    kind                  text NOT NULL DEFAULT 'host',
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
    calls                 bigint NOT NULL DEFAULT 1
);
ALTER TABLE public.cost_tracking
    ALTER COLUMN day DROP DEFAULT,
    ALTER COLUMN kind SET DEFAULT 'host',
    DROP CONSTRAINT IF EXISTS cost_tracking_kind,
    DROP CONSTRAINT IF EXISTS cost_tracking_names_its_payer,
    DROP CONSTRAINT IF EXISTS cost_tracking_cost_is_an_amount,
    DROP CONSTRAINT IF EXISTS cost_tracking_tokens_are_counts;
SELECT public.llm_common_constrain('public.cost_tracking', c.name, c.condition) FROM (VALUES
    -- Each system names its own kinds of calls.
    ('cost_tracking_kind_is_a_word', $$kind ~ '^[a-z][a-z0-9_]{0,39}$'$$),
    ('cost_tracking_payer', $$kind = 'host' OR project <> '' AND model <> ''$$),
    ('cost_tracking_amount', $$kind = 'host' OR cost_usd >= 0 AND cost_usd <> 'NaN'$$),
    ('cost_tracking_counts',
     $$kind = 'host' OR LEAST(input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens,
                              reasoning_tokens, tokens_used) >= 0$$),
    ('cost_tracking_price_source', $$price_source IN ('provider', 'override', 'map', 'estimate')$$),
    ('cost_tracking_status', $$status IN ('ok', 'failed', 'cancelled', 'cut', 'expired')$$),
    ('cost_tracking_tags_are_pairs', $$pg_catalog.jsonb_typeof(tags) = 'object'$$),
    -- Cache hits are many to a row, because a row for each would cost more than the hit; what was paid has its own.
    ('cost_tracking_gathers_cache_hits', $$calls = 1 OR calls > 1 AND kind = 'cache_hit' AND cost_usd = 0$$)
) AS c (name, condition);
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

-- cost_daily for the calls that name a user; those that name none are the rest of it.
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

-- Providers that bill more than their listed price, and how many times as much. Whoever reserves for them sets that
-- much more aside. Delete the row of a provider that has come to its senses.
CREATE TABLE IF NOT EXISTS public.cost_price_factors (
    provider text NOT NULL,
    model    text NOT NULL,
    factor   double precision NOT NULL CHECK (factor > 1),
    seen_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (provider, model)
);

SELECT public.llm_common_secure_table('public.cost_projects');
SELECT public.llm_common_secure_table('public.cost_tracking');
SELECT public.llm_common_secure_table('public.cost_reservations');
SELECT public.llm_common_secure_table('public.budget_windows');
SELECT public.llm_common_secure_table('public.cost_daily');
SELECT public.llm_common_secure_table('public.cost_daily_users');
SELECT public.llm_common_secure_table('public.cost_alerts');
SELECT public.llm_common_secure_table('public.cost_price_factors');

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

-- What is no amount counts as nothing: hosts may write it.
CREATE OR REPLACE FUNCTION public.cost_nano(cost_usd numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT CASE WHEN cost_usd > 0 AND cost_usd <> 'NaN' THEN (cost_usd * 1000000000)::bigint
                WHEN cost_usd IS NOT NULL THEN 0 END
$$;

-- What a call cost above what was set aside for it.
CREATE OR REPLACE FUNCTION public.cost_over(paid public.cost_tracking) RETURNS bigint
LANGUAGE sql IMMUTABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT public.cost_nano((paid).cost_usd - coalesce((paid).bound_usd, (paid).cost_usd))
$$;

-- The counters of the ledger: windows of budgets and the daily rollups. Nothing here is called from outside; every
-- function that writes wants the project's gate held.

-- What a window's counters must be, from the rollups, the rows and the calls in flight.
CREATE OR REPLACE FUNCTION public.budget_truth(
    of_project text, of_scope text, of_window text, of_starts date,
    OUT spent_nano bigint, OUT over_nano bigint, OUT reserved_nano bigint
) RETURNS record
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    ends  date := public.budget_ends(of_window, of_starts);
    kind  text := pg_catalog.split_part(of_scope, ':', 1);
    value text := pg_catalog.substr(of_scope, pg_catalog.length(pg_catalog.split_part(of_scope, ':', 1)) + 2);
    pair  jsonb := pg_catalog.jsonb_build_object(
        pg_catalog.split_part(value, '=', 1),
        pg_catalog.substr(value, pg_catalog.length(pg_catalog.split_part(value, '=', 1)) + 2));
BEGIN
    CASE kind
    WHEN 'project', 'model' THEN
        SELECT sum(d.cost_nano), sum(d.over_nano) INTO spent_nano, over_nano FROM public.cost_daily d
        WHERE d.project = of_project AND d.day >= of_starts AND d.day < ends AND (kind = 'project' OR d.model = value);
    WHEN 'user' THEN
        SELECT sum(u.cost_nano), sum(u.over_nano) INTO spent_nano, over_nano FROM public.cost_daily_users u
        WHERE u.project = of_project AND u.user_id = value AND u.day >= of_starts AND u.day < ends;
    WHEN 'run' THEN
        SELECT sum(public.cost_nano(c.cost_usd)), sum(public.cost_over(c)) INTO spent_nano, over_nano
        FROM public.cost_tracking c
        WHERE c.project = of_project AND c.run_id = value AND c.day >= of_starts AND c.day < ends;
    WHEN 'tag' THEN
        SELECT sum(public.cost_nano(c.cost_usd)), sum(public.cost_over(c)) INTO spent_nano, over_nano
        FROM public.cost_tracking c
        WHERE c.project = of_project AND c.tags <> '{}'::jsonb AND c.tags @> pair
            AND c.day >= of_starts AND c.day < ends;
    END CASE;
    SELECT coalesce(sum(r.bound_nano), 0), coalesce(spent_nano, 0), coalesce(over_nano, 0)
    INTO reserved_nano, spent_nano, over_nano FROM public.cost_reservations r
    WHERE r.project = of_project AND of_scope = ANY (r.scopes) AND r.day >= of_starts AND r.day < ends;
END $$;

-- Sees to it that there is a window for every limit, and always the project's own day and month.
CREATE OR REPLACE FUNCTION public.budget_open(of_project text, on_day date, limits jsonb) RETURNS void
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    WITH missing AS MATERIALIZED (
        SELECT n.scope, n."window", public.budget_starts(n."window", on_day) AS starts
        FROM (
            VALUES ('project', 'day'), ('project', 'month')
            UNION
            SELECT l.scope, l."window" FROM pg_catalog.jsonb_to_recordset(limits) l(scope text, "window" text)
        ) n(scope, "window")
        WHERE NOT EXISTS (
            SELECT FROM public.budget_windows w WHERE w.project = of_project AND w.scope = n.scope
                AND w.starts = public.budget_starts(n."window", on_day) AND w."window" = n."window")
    )
    INSERT INTO public.budget_windows (project, scope, starts, "window", spent_nano, over_nano, reserved_nano)
    SELECT of_project, m.scope, m.starts, m."window", truth.spent_nano, truth.over_nano, truth.reserved_nano
    FROM missing m CROSS JOIN LATERAL public.budget_truth(of_project, m.scope, m."window", m.starts) truth
$$;

CREATE OR REPLACE FUNCTION public.budget_move(
    of_project text, on_day date, of_scopes text[], reserved bigint, spent bigint, over bigint
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    month date := public.budget_starts('month', on_day);
    ever  date := public.budget_starts('total', on_day);
BEGIN
    UPDATE public.budget_windows AS w
    SET reserved_nano = w.reserved_nano + reserved, spent_nano = w.spent_nano + spent, over_nano = w.over_nano + over
    WHERE w.project = of_project AND w.scope = ANY (of_scopes) AND w.starts IN (on_day, month, ever)
        AND w.starts = CASE w."window" WHEN 'day' THEN on_day WHEN 'month' THEN month ELSE ever END;
END $$;

-- Checks the reserve, which is in the windows already, against its limits: LC001 for the tightest that does not hold.
CREATE OR REPLACE FUNCTION public.budget_fit(
    held public.cost_reservations, more_nano bigint, OUT spent_nano bigint, OUT limits_changed boolean
) RETURNS record
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    month date := public.budget_starts('month', held.day);
    ever  date := public.budget_starts('total', held.day);
    l     record;
BEGIN
    limits_changed := false;
    FOR l IN
        SELECT n.scope, n."window", w.starts, w.spent_nano, w.reserved_nano, w.limit_nano AS seen_nano, n.limit_nano
        FROM (
            VALUES ('project', 'day', NULL::bigint), ('project', 'month', NULL)
            UNION ALL
            SELECT r.scope, r."window", r.limit_nano
            FROM pg_catalog.jsonb_to_recordset(held.limits) r(scope text, "window" text, limit_nano bigint)
        ) n(scope, "window", limit_nano)
        LEFT JOIN public.budget_windows w ON w.project = held.project AND w.scope = n.scope AND w."window" = n."window"
            AND w.starts = CASE n."window" WHEN 'day' THEN held.day WHEN 'month' THEN month ELSE ever END
        ORDER BY w.starts IS NULL DESC, n.limit_nano - w.spent_nano - w.reserved_nano
    LOOP
        IF l.starts IS NULL THEN
            PERFORM public.budget_open(held.project, held.day, held.limits);
            SELECT * INTO spent_nano, limits_changed FROM public.budget_fit(held, more_nano);
            RETURN;
        ELSIF l.limit_nano IS NULL THEN
            spent_nano := CASE l."window" WHEN 'day' THEN l.spent_nano ELSE spent_nano END;
        ELSIF more_nano > 0 AND l.spent_nano + l.reserved_nano > l.limit_nano THEN
            RAISE EXCEPTION USING ERRCODE = 'LC001',
                MESSAGE = pg_catalog.format(
                    'budget %s/%s of project %s is exhausted', l.scope, l."window", held.project),
                DETAIL = pg_catalog.jsonb_build_object(
                    'budget', l.scope || '/' || l."window", 'limit_nano', l.limit_nano, 'spent_nano', l.spent_nano,
                    'reserved_nano', l.reserved_nano - more_nano, 'requested_nano', more_nano,
                    'resets_at', public.budget_resets_at(held.project, l."window", l.starts))::text;
        ELSIF l.seen_nano IS DISTINCT FROM l.limit_nano THEN
            limits_changed := true;
            UPDATE public.budget_windows w SET limit_nano = l.limit_nano
            WHERE w.project = held.project AND w.scope = l.scope AND w.starts = l.starts AND w."window" = l."window";
        END IF;
    END LOOP;
END $$;

-- The thresholds that are crossed and that nobody has told of yet; whoever gets one here is the one to tell.
CREATE OR REPLACE FUNCTION public.budget_alerts(of_project text, on_day date, limits jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    WITH fired AS (
        INSERT INTO public.cost_alerts (project, scope, starts, "window", threshold, limit_nano, spent_nano)
        SELECT w.project, w.scope, w.starts, w."window", l.alert_threshold, l.limit_nano, w.spent_nano
        FROM pg_catalog.jsonb_to_recordset(limits)
            l(scope text, "window" text, limit_nano bigint, alert_threshold numeric)
        JOIN public.budget_windows w ON w.project = of_project AND w.scope = l.scope AND w."window" = l."window"
            AND w.starts = public.budget_starts(l."window", on_day)
        WHERE w.spent_nano > 0 AND w.spent_nano >= l.limit_nano * l.alert_threshold
        ON CONFLICT DO NOTHING
        RETURNING project, scope, "window", starts, threshold, limit_nano, spent_nano
    )
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(fired)), '[]') FROM fired
$$;

CREATE OR REPLACE FUNCTION public.cost_rollup(paid public.cost_tracking, sign integer) RETURNS void
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    INSERT INTO public.cost_daily AS d
        (day, project, provider, model, step, calls, failed, cache_hits, tokens, cost_nano, over_nano)
    VALUES (
        (paid).day, (paid).project, (paid).provider, (paid).model, coalesce((paid).step, ''), sign * (paid).calls,
        sign * (paid).calls * ((paid).status <> 'ok')::integer,
        sign * (paid).calls * ((paid).kind = 'cache_hit')::integer,
        sign * (paid).tokens_used, sign * public.cost_nano((paid).cost_usd), sign * public.cost_over(paid))
    ON CONFLICT ON CONSTRAINT cost_daily_pkey DO UPDATE SET
        calls = d.calls + excluded.calls, failed = d.failed + excluded.failed,
        cache_hits = d.cache_hits + excluded.cache_hits, tokens = d.tokens + excluded.tokens,
        cost_nano = d.cost_nano + excluded.cost_nano, over_nano = d.over_nano + excluded.over_nano;
    INSERT INTO public.cost_daily_users AS u
        (day, project, user_id, calls, failed, cache_hits, tokens, cost_nano, over_nano)
    SELECT (paid).day, (paid).project, (paid).user_id, sign * (paid).calls,
        sign * (paid).calls * ((paid).status <> 'ok')::integer,
        sign * (paid).calls * ((paid).kind = 'cache_hit')::integer,
        sign * (paid).tokens_used, sign * public.cost_nano((paid).cost_usd), sign * public.cost_over(paid)
    WHERE (paid).user_id IS NOT NULL
    ON CONFLICT ON CONSTRAINT cost_daily_users_pkey DO UPDATE SET
        calls = u.calls + excluded.calls, failed = u.failed + excluded.failed,
        cache_hits = u.cache_hits + excluded.cache_hits, tokens = u.tokens + excluded.tokens,
        cost_nano = u.cost_nano + excluded.cost_nano, over_nano = u.over_nano + excluded.over_nano
$$;

-- Counts a row in (sign 1) or out (-1).
CREATE OR REPLACE FUNCTION public.cost_count(paid public.cost_tracking, sign integer) RETURNS void
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    SELECT public.budget_move(
        (paid).project, (paid).day,
        public.cost_scopes((paid).user_id, (paid).model, (paid).run_id, (paid).tags),
        0, sign * public.cost_nano((paid).cost_usd), sign * public.cost_over(paid));
    SELECT public.cost_rollup(paid, sign)
$$;

-- `base` with what became of the call: {cost_nano, status, price_source, ...} under the names of the columns.
CREATE OR REPLACE FUNCTION public.cost_paid(base public.cost_tracking, outcome jsonb) RETURNS public.cost_tracking
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    paid public.cost_tracking := pg_catalog.jsonb_populate_record(base, outcome);
    nano numeric := (outcome ->> 'cost_nano')::numeric;
BEGIN
    IF nano IS NULL OR NOT nano BETWEEN 0 AND 999999999999999999 THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = pg_catalog.format(
            'cost_nano must be from 0 to 999999999999999999 nano-dollars, not %s', outcome ->> 'cost_nano');
    END IF;
    paid.cost_usd := nano * 0.000000001;
    -- These say whose call it was; an outcome cannot change them.
    paid.id := base.id;
    paid.project := base.project;
    paid.day := base.day;
    paid."timestamp" := base."timestamp";
    paid.bound_usd := base.bound_usd;
    paid.kind := base.kind;
    paid.model := coalesce(paid.model, base.model);
    paid.provider := coalesce(paid.provider, base.provider);
    paid.step := base.step;
    paid.run_id := base.run_id;
    paid.user_id := base.user_id;
    paid.tags := coalesce(base.tags, '{}');
    paid.idempotency_key := base.idempotency_key;
    paid.input_tokens := coalesce(paid.input_tokens, 0);
    paid.cache_read_tokens := coalesce(paid.cache_read_tokens, 0);
    paid.cache_write_tokens := coalesce(paid.cache_write_tokens, 0);
    paid.cache_write_1h_tokens := coalesce(paid.cache_write_1h_tokens, 0);
    paid.output_tokens := coalesce(paid.output_tokens, 0);
    paid.reasoning_tokens := coalesce(paid.reasoning_tokens, 0);
    paid.tokens_used := coalesce(paid.tokens_used, 0);
    paid.attempts := coalesce(paid.attempts, 1);
    paid.calls := coalesce(paid.calls, 1);
    RETURN paid;
END $$;

-- The row that a reservation becomes, its outcome still open.
CREATE OR REPLACE FUNCTION public.cost_of_reservation(held public.cost_reservations) RETURNS public.cost_tracking
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    base public.cost_tracking;
BEGIN
    base := pg_catalog.jsonb_populate_record(NULL::public.cost_tracking, pg_catalog.to_jsonb(held));
    base."timestamp" := held.reserved_at;
    base.bound_usd := held.bound_nano * 0.000000001;
    RETURN base;
END $$;

-- The owner is dead, and the provider may have been paid: charge the bound, as an estimate, to the model asked last.
-- Returns the fired alerts.
CREATE OR REPLACE FUNCTION public.cost_expire(held public.cost_reservations) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    paid public.cost_tracking := public.cost_paid(
        public.cost_of_reservation(held),
        pg_catalog.jsonb_build_object('cost_nano', held.bound_nano, 'price_source', 'estimate', 'status', 'expired'));
BEGIN
    DELETE FROM public.cost_reservations r WHERE r.id = held.id;
    PERFORM public.budget_move(held.project, held.day, held.scopes, -held.bound_nano, 0, 0);
    INSERT INTO public.cost_tracking SELECT (paid).* ON CONFLICT (id) DO NOTHING;
    IF FOUND THEN
        PERFORM public.cost_count(paid, 1);
    END IF;
    RETURN public.budget_alerts(held.project, held.day, held.limits);
END $$;

-- A bound by the listed price as what it really comes to.
CREATE OR REPLACE FUNCTION public.cost_true_bound(of_provider text, of_model text, bound_nano bigint) RETURNS bigint
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.ceil(bound_nano * coalesce((
        SELECT f.factor FROM public.cost_price_factors f
         WHERE f.provider = of_provider AND f.model = of_model), 1))::bigint
$$;

-- Remembers that a provider billed more than its list says. A rounding is no news, nor is what is known already.
CREATE OR REPLACE FUNCTION public.cost_note_price(paid public.cost_tracking, listed_nano bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    billed double precision := public.cost_nano(paid.cost_usd);
BEGIN
    IF listed_nano > 0 AND billed > 1.01 * public.cost_true_bound(paid.provider, paid.model, listed_nano) THEN
        INSERT INTO public.cost_price_factors AS f (provider, model, factor)
        VALUES (paid.provider, paid.model, billed / listed_nano)
        ON CONFLICT (provider, model) DO UPDATE
            SET factor = GREATEST(f.factor, excluded.factor), seen_at = excluded.seen_at;
    END IF;
END $$;

-- The ledger as a client sees it: reserve, extend, settle or release; expire; record what was paid elsewhere.

-- call:   {project, kind, provider, model, bound_nano}, if known {id, step, run_id, user_id, tags, idempotency_key}
-- limits: [{scope, window, limit_nano, alert_threshold}], scopes as in cost_scopes
-- Returns {reservation_id, spent_today_nano, alerts}; LC001 if a limit does not allow it, and then nothing changed.
-- Reserving again with the id of a live reservation returns that one, so an answer lost on the way does no harm. A key
-- is good for one call only: what the second call cost would otherwise go unrecorded.
CREATE OR REPLACE FUNCTION public.reserve_cost(
    call jsonb, limits jsonb DEFAULT '[]', hold_seconds double precision DEFAULT 900
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET enable_seqscan = off AS $$
DECLARE
    at   timestamptz := pg_catalog.clock_timestamp();
    held public.cost_reservations := pg_catalog.jsonb_populate_record(NULL::public.cost_reservations, call);
    dead public.cost_reservations;
    fit  record;
    alerts jsonb := '[]';
BEGIN
    held.id := coalesce(held.id, pg_catalog.gen_random_uuid());
    held.tags := coalesce(held.tags, '{}');
    held.scopes := public.cost_scopes(held.user_id, held.model, held.run_id, held.tags);
    held.limits := limits;
    PERFORM public.cost_reservation_check(held, hold_seconds);
    held.bound_nano := public.cost_true_bound(held.provider, held.model, held.bound_nano);
    held.hold := pg_catalog.make_interval(secs => hold_seconds);
    held.day := public.cost_day(held.project, at);
    held.reserved_at := at;
    held.expires_at := at + held.hold;
    INSERT INTO public.cost_reservations SELECT (held).* ON CONFLICT DO NOTHING;
    IF NOT FOUND AND EXISTS (SELECT FROM public.cost_reservations r WHERE r.id = held.id) THEN
        RETURN pg_catalog.jsonb_build_object(
            'reservation_id', held.id, 'spent_today_nano', public.cost_spent_today(held.project), 'alerts', alerts);
    ELSIF NOT FOUND THEN
        PERFORM public.cost_key_used(held.project, held.idempotency_key);
    END IF;

    PERFORM public.cost_gate(held.project);
    IF held.idempotency_key IS NOT NULL AND EXISTS (
        SELECT FROM public.cost_tracking c
        WHERE c.project = held.project AND c.idempotency_key = held.idempotency_key
    ) THEN
        PERFORM public.cost_key_used(held.project, held.idempotency_key);
    END IF;
    -- A few at a time: nobody has to run a sweeper, and no call pays for many.
    FOR dead IN
        SELECT * FROM public.cost_reservations r WHERE r.project = held.project AND r.expires_at < at
        ORDER BY r.expires_at LIMIT 3 FOR UPDATE SKIP LOCKED
    LOOP
        alerts := alerts || public.cost_expire(dead);
    END LOOP;
    PERFORM public.budget_move(held.project, held.day, held.scopes, held.bound_nano, 0, 0);
    fit := public.budget_fit(held, held.bound_nano);
    IF fit.limits_changed THEN
        -- A new limit may be nearly spent already.
        alerts := alerts || public.budget_alerts(held.project, held.day, limits);
    END IF;
    RETURN pg_catalog.jsonb_build_object(
        'reservation_id', held.id, 'spent_today_nano', fit.spent_nano, 'alerts', alerts);
END $$;

CREATE OR REPLACE FUNCTION public.cost_key_used(project text, key text) RETURNS void
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = pg_catalog.format(
        'idempotency key %L was already used in project %s, so nothing was reserved or recorded; '
        'a new call needs a new key', key, project);
END $$;

CREATE OR REPLACE FUNCTION public.cost_reservation_check(held public.cost_reservations, hold_seconds double precision)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    wrong text := CASE
        WHEN coalesce(held.project, '') = '' THEN 'project is empty'
        WHEN coalesce(held.model, '') = '' THEN 'model is empty'
        WHEN held.provider IS NULL THEN 'provider is missing'
        WHEN coalesce(held.kind, '') !~ '^[a-z][a-z0-9_]{0,39}$'
            THEN pg_catalog.format('kind %L is no word of at most 40 small letters, digits and underscores', held.kind)
        WHEN held.kind = 'host' THEN 'kind host is of rows that are inserted without a function'
        WHEN held.bound_nano IS NULL OR held.bound_nano NOT BETWEEN 0 AND 999999999999999999
            THEN pg_catalog.format('bound_nano must be from 0 to 999999999999999999, not %L', held.bound_nano)
        WHEN hold_seconds IS NULL OR NOT hold_seconds BETWEEN 0.001 AND 2678400
            THEN pg_catalog.format('hold_seconds must be from 0.001 to 31 days, not %L', hold_seconds)
        WHEN pg_catalog.jsonb_typeof(held.tags) <> 'object' THEN 'tags must be an object'
        WHEN EXISTS (SELECT FROM pg_catalog.jsonb_object_keys(held.tags) k WHERE pg_catalog.strpos(k, '=') > 0)
            THEN 'the name of a tag must not have = in it'
        WHEN EXISTS (
            SELECT FROM pg_catalog.jsonb_to_recordset(held.limits) l(scope text, "window" text, limit_nano bigint)
            WHERE (l.scope = ANY (held.scopes) AND l."window" IN ('day', 'month', 'total') AND l.limit_nano >= 0)
                IS NOT TRUE
        ) THEN pg_catalog.format(
            'limits must be of scopes that the call has, of day, month or total, and not negative: %s', held.limits)
    END;
BEGIN
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = 'cannot reserve: ' || wrong;
    END IF;
END $$;

-- Makes a reservation larger, and lets its hold begin anew. With another model, what is set aside counts for that one's
-- budgets as well: a call has one row, and the model that answers at last is the one it names. `limits` as in
-- reserve_cost; only those of the new model are taken. Checks nothing.
CREATE OR REPLACE FUNCTION public.cost_grow(
    before public.cost_reservations, more_nano bigint, of_extension uuid, of_model text, of_provider text, limits jsonb
) RETURNS public.cost_reservations
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    held  public.cost_reservations := before;
    scope text := 'model:' || of_model;
    more_nano bigint := public.cost_true_bound(
        coalesce(of_provider, before.provider), coalesce(of_model, before.model), cost_grow.more_nano);
BEGIN
    held.bound_nano := before.bound_nano + more_nano;
    held.extension := of_extension;
    held.expires_at := GREATEST(before.expires_at, pg_catalog.clock_timestamp() + before.hold);
    held.model := coalesce(of_model, before.model);
    held.provider := coalesce(of_provider, before.provider);
    IF NOT scope = ANY (before.scopes) THEN
        held.scopes := before.scopes || scope;
        held.limits := before.limits || (
            SELECT coalesce(pg_catalog.jsonb_agg(l), '[]')
            FROM pg_catalog.jsonb_array_elements(cost_grow.limits) l WHERE l ->> 'scope' = scope);
    END IF;
    UPDATE public.cost_reservations r
    SET (bound_nano, extension, expires_at, model, provider, scopes, limits)
        = (held.bound_nano, held.extension, held.expires_at, held.model, held.provider, held.scopes, held.limits)
    WHERE r.id = held.id;
    PERFORM public.cost_gate(held.project);
    PERFORM public.budget_move(held.project, held.day, before.scopes, more_nano, 0, 0);
    IF held.scopes <> before.scopes THEN
        PERFORM public.budget_move(held.project, held.day, ARRAY[scope], held.bound_nano, 0, 0);
    END IF;
    RETURN held;
END $$;

-- Sets more_nano more aside. The same extension_id twice in a row counts once. With a model the call goes to that one
-- from now on, and all that is set aside must fit its `limits` (as in reserve_cost) too. Returns {spent_today_nano}.
CREATE OR REPLACE FUNCTION public.extend_cost(
    reservation_id uuid, more_nano bigint, extension_id uuid,
    model text DEFAULT NULL, provider text DEFAULT NULL, limits jsonb DEFAULT '[]'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET enable_seqscan = off AS $$
DECLARE
    before public.cost_reservations;
    held   public.cost_reservations;
BEGIN
    IF more_nano IS NULL OR NOT more_nano BETWEEN 0 AND 999999999999999999 THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = pg_catalog.format(
            'more_nano must be from 0 to 999999999999999999 nano-dollars, not %L', more_nano);
    END IF;
    SELECT * INTO before FROM public.cost_reservations r WHERE r.id = reservation_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LC003', MESSAGE = pg_catalog.format(
            'reservation %s cannot be extended: it was settled, released, or expired and was charged', reservation_id);
    END IF;
    IF before.extension IS DISTINCT FROM extension_id THEN
        held := public.cost_grow(
            before, more_nano, extension_id, extend_cost.model, extend_cost.provider, extend_cost.limits);
        PERFORM public.budget_fit(before, more_nano);
        IF held.scopes <> before.scopes THEN
            -- To the budgets of the new model, all of it is new.
            held.limits := pg_catalog.jsonb_path_query_array(
                held.limits, '$[*] ? (@.scope == $model)',
                pg_catalog.jsonb_build_object('model', 'model:' || extend_cost.model));
            PERFORM public.budget_fit(held, held.bound_nano);
        END IF;
    END IF;
    RETURN pg_catalog.jsonb_build_object('spent_today_nano', public.cost_spent_today(before.project));
END $$;

-- Takes in a reservation that was made while this database could not be reached: call, limits and hold_seconds as in
-- reserve_cost, and when it was made. It is never refused, for the call was sent. Again changes nothing, or makes it
-- larger where bound_nano or the model grew since; a call that is in cost_tracking is known, save that one which was
-- charged at a smaller bound when it expired is charged at this one. A key that another call has is left out.
-- Returns {adopted, spent_today_nano, alerts}.
CREATE OR REPLACE FUNCTION public.adopt_cost(
    call jsonb, limits jsonb, hold_seconds double precision, reserved_at timestamptz
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET enable_seqscan = off AS $$
DECLARE
    held     public.cost_reservations := pg_catalog.jsonb_populate_record(NULL::public.cost_reservations, call);
    before   public.cost_reservations;
    known    public.cost_tracking;
    paid     public.cost_tracking;
    inserted boolean;
BEGIN
    held.tags := coalesce(held.tags, '{}');
    held.scopes := public.cost_scopes(held.user_id, held.model, held.run_id, held.tags);
    held.limits := limits;
    PERFORM public.cost_reservation_check(held, hold_seconds);
    held.bound_nano := public.cost_true_bound(held.provider, held.model, held.bound_nano);
    held.hold := pg_catalog.make_interval(secs => hold_seconds);
    held.day := public.cost_day(held.project, adopt_cost.reserved_at);
    held.reserved_at := adopt_cost.reserved_at;
    held.expires_at := held.reserved_at + held.hold;
    INSERT INTO public.cost_reservations SELECT (held).* ON CONFLICT DO NOTHING;
    inserted := FOUND;
    IF NOT inserted AND NOT EXISTS (SELECT FROM public.cost_reservations r WHERE r.id = held.id) THEN
        held.idempotency_key := NULL;
        INSERT INTO public.cost_reservations SELECT (held).* ON CONFLICT DO NOTHING;
        inserted := FOUND;
    END IF;
    -- Looked at last: whoever settles it meanwhile writes this row before the reservation's id is free again.
    SELECT * INTO known FROM public.cost_tracking c WHERE c.id = held.id FOR UPDATE;
    IF FOUND THEN
        DELETE FROM public.cost_reservations r WHERE r.id = held.id AND inserted;
        PERFORM public.cost_gate(held.project);
        IF known.status = 'expired' AND public.cost_nano(known.cost_usd) < held.bound_nano THEN
            paid := known;
            paid.cost_usd := held.bound_nano * 0.000000001;
            paid.bound_usd := paid.cost_usd;
            UPDATE public.cost_tracking c SET (cost_usd, bound_usd) = (paid.cost_usd, paid.bound_usd)
            WHERE c.id = held.id;
            PERFORM public.cost_count(known, -1);
            PERFORM public.cost_count(paid, 1);
        END IF;
    ELSIF inserted THEN
        PERFORM public.cost_gate(held.project);
        UPDATE public.cost_reservations r SET idempotency_key = NULL
        WHERE r.id = held.id AND EXISTS (
            SELECT FROM public.cost_tracking c
            WHERE c.project = held.project AND c.idempotency_key = held.idempotency_key);
        PERFORM public.budget_move(held.project, held.day, held.scopes, held.bound_nano, 0, 0);
        PERFORM public.budget_open(held.project, held.day, limits);
    ELSE
        SELECT * INTO before FROM public.cost_reservations r WHERE r.id = held.id FOR UPDATE;
        IF FOUND THEN
            before := public.cost_grow(
                before, GREATEST(held.bound_nano - before.bound_nano, 0), before.extension, held.model, held.provider,
                limits);
            PERFORM public.budget_open(before.project, before.day, before.limits);
        END IF;
    END IF;
    RETURN pg_catalog.jsonb_build_object(
        'adopted', inserted AND known.id IS NULL, 'spent_today_nano', public.cost_spent_today(held.project),
        'alerts', public.budget_alerts(held.project, held.day, limits));
END $$;

-- outcome: {cost_nano, price_source, status} and what else is known: model, provider, model_answered, latency_ms,
-- attempts, the tokens.
-- Returns {settled, spent_today_nano, alerts}; settled is false when the truth was known already.
CREATE OR REPLACE FUNCTION public.settle_cost(reservation_id uuid, outcome jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET enable_seqscan = off AS $$
DECLARE
    held public.cost_reservations;
    paid public.cost_tracking;
    known public.cost_tracking;
    paid_scopes text[];
    freed bigint;
BEGIN
    IF outcome ->> 'status' = 'expired' THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002',
            MESSAGE = 'a settlement cannot have status expired; use ok, failed, cancelled or cut';
    END IF;
    DELETE FROM public.cost_reservations r WHERE r.id = reservation_id RETURNING * INTO held;
    IF FOUND THEN
        paid := public.cost_paid(public.cost_of_reservation(held), outcome);
        INSERT INTO public.cost_tracking SELECT (paid).*;
        PERFORM public.cost_note_price(paid, (outcome ->> 'listed_nano')::bigint);
        paid_scopes := public.cost_scopes(paid.user_id, paid.model, paid.run_id, paid.tags);
        PERFORM public.cost_gate(held.project);
        freed := held.bound_nano;
        IF paid_scopes <> held.scopes THEN
            -- Another model was paid than the one that the money was set aside for.
            PERFORM public.budget_move(held.project, held.day, held.scopes, -freed, 0, 0);
            freed := 0;
        END IF;
        PERFORM public.budget_move(
            held.project, held.day, paid_scopes, -freed, public.cost_nano(paid.cost_usd), public.cost_over(paid));
        PERFORM public.cost_rollup(paid, 1);
        RETURN pg_catalog.jsonb_build_object(
            'settled', true, 'spent_today_nano', public.cost_spent_today(held.project),
            'alerts', public.budget_alerts(held.project, held.day, held.limits));
    END IF;

    SELECT * INTO known FROM public.cost_tracking c WHERE c.id = reservation_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LC003', MESSAGE = pg_catalog.format(
            'reservation %s is not known: it was released, or never made; log the cost instead', reservation_id);
    END IF;
    IF known.status = 'expired' THEN
        paid := public.cost_paid(known, outcome);
        PERFORM public.cost_gate(known.project);
        -- In place: a rival settlement that waits for this row must find it again.
        UPDATE public.cost_tracking c SET
            (provider, model, model_answered, cost_usd, price_source, status, latency_ms, attempts,
             tokens_used, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens,
             output_tokens, reasoning_tokens)
            = (paid.provider, paid.model, paid.model_answered, paid.cost_usd, paid.price_source, paid.status,
               paid.latency_ms, paid.attempts, paid.tokens_used, paid.input_tokens, paid.cache_read_tokens,
               paid.cache_write_tokens, paid.cache_write_1h_tokens, paid.output_tokens, paid.reasoning_tokens)
        WHERE c.id = reservation_id;
        PERFORM public.cost_count(known, -1);
        PERFORM public.cost_count(paid, 1);
    END IF;
    RETURN pg_catalog.jsonb_build_object(
        'settled', known.status = 'expired', 'spent_today_nano', public.cost_spent_today(known.project),
        'alerts', '[]'::jsonb);
END $$;

-- Nothing was sent: gives the reserve back, also after it expired. Returns whether there was something to give back.
CREATE OR REPLACE FUNCTION public.release_cost(reservation_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET enable_seqscan = off AS $$
DECLARE
    held public.cost_reservations;
    charged public.cost_tracking;
BEGIN
    DELETE FROM public.cost_reservations r WHERE r.id = reservation_id RETURNING * INTO held;
    IF FOUND THEN
        PERFORM public.cost_gate(held.project);
        PERFORM public.budget_move(held.project, held.day, held.scopes, -held.bound_nano, 0, 0);
        RETURN true;
    END IF;
    DELETE FROM public.cost_tracking c WHERE c.id = reservation_id AND c.status = 'expired' RETURNING * INTO charged;
    IF FOUND THEN
        PERFORM public.cost_gate(charged.project);
        PERFORM public.cost_count(charged, -1);
        RETURN true;
    END IF;
    RETURN false;
END $$;

-- Charges dead reservations, of one project or of all. Returns {expired, alerts}.
CREATE OR REPLACE FUNCTION public.expire_reservations(max_rows integer DEFAULT 100, project text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET enable_seqscan = off AS $$
DECLARE
    at      timestamptz := pg_catalog.clock_timestamp();
    mine    public.cost_reservations[];
    held    public.cost_reservations;
    alerts  jsonb := '[]';
BEGIN
    mine := ARRAY(
        SELECT r FROM public.cost_reservations r
        WHERE r.expires_at < at
            AND (expire_reservations.project IS NULL OR r.project = expire_reservations.project)
        ORDER BY r.expires_at LIMIT max_rows FOR UPDATE SKIP LOCKED);
    PERFORM public.cost_gate(p.project)
    FROM (
        SELECT DISTINCT m.project, pg_catalog.hashtext(m.project) AS hash FROM pg_catalog.unnest(mine) m ORDER BY hash
    ) p;
    FOREACH held IN ARRAY mine LOOP
        alerts := alerts || public.cost_expire(held);
    END LOOP;
    RETURN pg_catalog.jsonb_build_object('expired', coalesce(pg_catalog.cardinality(mine), 0), 'alerts', alerts);
END $$;

-- A cost without a reservation: paid elsewhere, or a cache hit at 0. cost: {project, model, cost_nano} and any other
-- column of cost_tracking; limits as in reserve_cost, for their alerts only. The same id or key again changes nothing.
-- Returns {recorded, spent_today_nano, alerts}.
CREATE OR REPLACE FUNCTION public.record_cost(cost jsonb, limits jsonb DEFAULT '[]') RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET enable_seqscan = off AS $$
DECLARE
    base public.cost_tracking := pg_catalog.jsonb_populate_record(NULL::public.cost_tracking, cost);
    paid public.cost_tracking;
    recorded boolean;
BEGIN
    base.id := coalesce(base.id, pg_catalog.gen_random_uuid());
    base."timestamp" := coalesce(base."timestamp", pg_catalog.clock_timestamp());
    base.day := public.cost_day(base.project, base."timestamp");
    base.bound_usd := NULL;
    -- Rows of kind host are counted by their trigger.
    base.kind := coalesce(nullif(base.kind, 'host'), 'external');
    base.provider := coalesce(base.provider, '');
    base.price_source := coalesce(base.price_source, 'override');
    base.status := coalesce(base.status, 'ok');
    paid := public.cost_paid(base, cost);
    -- The gate first: whoever charges a dead reservation holds it while writing a row that may have this key.
    PERFORM public.cost_gate(paid.project);
    IF paid.idempotency_key IS NOT NULL AND EXISTS (
        SELECT FROM public.cost_reservations r
        WHERE r.project = paid.project AND r.idempotency_key = paid.idempotency_key
    ) THEN
        PERFORM public.cost_key_used(paid.project, paid.idempotency_key);
    END IF;
    INSERT INTO public.cost_tracking SELECT (paid).* ON CONFLICT DO NOTHING;
    recorded := FOUND;
    IF recorded THEN
        PERFORM public.cost_count(paid, 1);
        PERFORM public.budget_open(paid.project, paid.day, limits);
    END IF;
    RETURN pg_catalog.jsonb_build_object(
        'recorded', recorded, 'spent_today_nano', public.cost_spent_today(paid.project),
        'alerts', public.budget_alerts(paid.project, paid.day, limits));
END $$;

-- Rows that the host inserts --------------------------------------------------------------------------------------

-- As the owner, because the host's role need not reach the counters.
CREATE OR REPLACE FUNCTION public.cost_host_row() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    NEW.kind := 'host';
    NEW.id := coalesce(NEW.id, pg_catalog.gen_random_uuid());
    NEW.project := coalesce(NEW.project, 'default');
    NEW.model := coalesce(NEW.model, 'unknown');
    NEW.cost_usd := coalesce(NEW.cost_usd, 0);
    NEW.tokens_used := coalesce(NEW.tokens_used, 0);
    NEW."timestamp" := coalesce(NEW."timestamp", pg_catalog.now());
    NEW.day := public.cost_day(NEW.project, NEW."timestamp");
    RETURN NEW;
END $$;

CREATE OR REPLACE FUNCTION public.cost_host_count() RETURNS trigger
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    PERFORM public.cost_gate(NEW.project);
    PERFORM public.cost_count(NEW, 1);
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER llm_common_host_row BEFORE INSERT ON public.cost_tracking
    FOR EACH ROW WHEN (NEW.day IS NULL) EXECUTE FUNCTION public.cost_host_row();
CREATE OR REPLACE TRIGGER llm_common_host_count AFTER INSERT ON public.cost_tracking
    FOR EACH ROW WHEN (NEW.kind = 'host') EXECUTE FUNCTION public.cost_host_count();

-- Early commits: the gate of a project is free while the disk writes -----------------------------------------------
--
-- A transaction keeps its locks until its commit is on the disk. Calls of one project pass its gate one by one, so on
-- one budget there would be no more of them in a second than the disk has flushes in it. Where a connection is free to
-- commit, llm_common/db/psycopg.py sends reserve_cost and settle_cost as
--
--   SET LOCAL synchronous_commit = off; SELECT ...; BEGIN; COMMIT; SELECT public.llm_common_flush()
--
-- in one message, whose statements up to the COMMIT are one transaction: that commit does not wait for the disk and opens
-- the gate, the one of the last statement waits for it, beside all the others who do.
--
-- Nobody is told of anything that is not on the disk: the answer is read after the second commit, and what the next one
-- through the gate builds upon lies before its own commit in the log, so it is on the disk too by the time that one is
-- answered. A crash in between undoes what nobody was told of; asking again with the same id is harmless.

DROP PROCEDURE IF EXISTS public.reserve_cost_early(jsonb, jsonb, double precision, jsonb);
DROP PROCEDURE IF EXISTS public.settle_cost_early(uuid, jsonb, jsonb);

-- Waits until all that was committed before is on the disk (and on the standbys that the session waits for): a commit
-- flushes the log up to itself, if it has something to write. The message is for nobody.
CREATE OR REPLACE FUNCTION public.llm_common_flush() RETURNS void
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.pg_logical_emit_message(true, 'llm_common', '')
$$;

-- Reports: what was spent, what the budgets have left, and the proof that the counters tell the truth. They read the
-- rollups, never the rows; only the proof does.

SELECT public.llm_common_make_room('get_daily_cost', 'get_monthly_cost', 'get_cost_breakdown');

-- In dollars; without a project the sum of all of them. One row, so that SELECT get_daily_cost(...) is the sum as well.
CREATE OR REPLACE FUNCTION public.get_daily_cost(target_date date, project text DEFAULT NULL)
RETURNS TABLE (total_cost numeric)
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT coalesce(sum(d.cost_nano), 0) * 0.000000001 FROM public.cost_daily d
    WHERE d.day = target_date AND (get_daily_cost.project IS NULL OR d.project = get_daily_cost.project)
$$;

CREATE OR REPLACE FUNCTION public.get_monthly_cost(target_year integer, target_month integer, project text DEFAULT NULL)
RETURNS TABLE (total_cost numeric)
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    month date;
BEGIN
    IF (target_month BETWEEN 1 AND 12 AND target_year BETWEEN 1 AND 9999) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = pg_catalog.format(
            'there is no month %s of year %s', target_month, target_year);
    END IF;
    month := pg_catalog.make_date(target_year, target_month, 1);
    RETURN QUERY
        SELECT coalesce(sum(d.cost_nano), 0) * 0.000000001 FROM public.cost_daily d
        WHERE d.day >= month AND d.day < (month + INTERVAL '1 month')::date
            AND (get_monthly_cost.project IS NULL OR d.project = get_monthly_cost.project);
END $$;

-- By model, step, provider, project, user or day, dearest first; both dates are counted.
CREATE OR REPLACE FUNCTION public.get_cost_breakdown(
    start_date date, end_date date, group_by text DEFAULT 'model', project text DEFAULT NULL
) RETURNS TABLE (group_key text, cost_usd numeric, calls bigint, failed bigint, cache_hits bigint, tokens bigint)
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
#variable_conflict use_column
BEGIN
    IF (group_by IN ('model', 'step', 'provider', 'project', 'user', 'day')) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = pg_catalog.format(
            'group_by %L is none of model, step, provider, project, user, day', group_by);
    ELSIF (start_date <= end_date) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = pg_catalog.format(
            'start_date %s must not be after end_date %s', start_date, end_date);
    ELSIF group_by = 'user' THEN
        RETURN QUERY
            SELECT g.user_id, sum(g.cost_nano) * 0.000000001, sum(g.calls)::bigint, sum(g.failed)::bigint,
                sum(g.cache_hits)::bigint, sum(g.tokens)::bigint
            FROM (
                SELECT u.user_id, u.day, u.project, u.cost_nano, u.calls, u.failed, u.cache_hits, u.tokens
                FROM public.cost_daily_users u
                UNION ALL
                -- Those without a user are all the calls but those of users.
                SELECT '(none)', d.day, d.project, d.cost_nano, d.calls, d.failed, d.cache_hits, d.tokens
                FROM public.cost_daily d
                UNION ALL
                SELECT '(none)', u.day, u.project, -u.cost_nano, -u.calls, -u.failed, -u.cache_hits, -u.tokens
                FROM public.cost_daily_users u
            ) g
            WHERE g.day BETWEEN start_date AND end_date
                AND (get_cost_breakdown.project IS NULL OR g.project = get_cost_breakdown.project)
            GROUP BY 1 HAVING sum(g.calls) > 0 ORDER BY 2 DESC, 1;
    ELSE
        RETURN QUERY
            SELECT CASE group_by WHEN 'model' THEN d.model WHEN 'step' THEN coalesce(nullif(d.step, ''), '(none)')
                                 WHEN 'provider' THEN coalesce(nullif(d.provider, ''), '(none)')
                                 WHEN 'project' THEN d.project WHEN 'day' THEN d.day::text END,
                (sum(d.cost_nano) * 0.000000001), sum(d.calls)::bigint, sum(d.failed)::bigint,
                sum(d.cache_hits)::bigint, sum(d.tokens)::bigint
            FROM public.cost_daily d
            WHERE d.day BETWEEN start_date AND end_date
                AND (get_cost_breakdown.project IS NULL OR d.project = get_cost_breakdown.project)
            GROUP BY 1 HAVING sum(d.calls) > 0 ORDER BY 2 DESC, 1;
    END IF;
END $$;

-- Of the days from_day to to_day, both counted; null means the project's today.
-- Returns {cost_nano, calls, failed, cache_hits, tokens}.
CREATE OR REPLACE FUNCTION public.cost_total(project text, from_day date DEFAULT NULL, to_day date DEFAULT NULL)
RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.jsonb_build_object(
        'cost_nano', coalesce(sum(d.cost_nano), 0)::bigint, 'calls', coalesce(sum(d.calls), 0)::bigint,
        'failed', coalesce(sum(d.failed), 0)::bigint, 'cache_hits', coalesce(sum(d.cache_hits), 0)::bigint,
        'tokens', coalesce(sum(d.tokens), 0)::bigint)
    FROM public.cost_daily d
    WHERE d.project = cost_total.project
        AND d.day BETWEEN coalesce(from_day, public.cost_day(cost_total.project, pg_catalog.now()))
                      AND coalesce(to_day, public.cost_day(cost_total.project, pg_catalog.now()))
$$;

-- Like get_cost_breakdown: [{key, cost_nano, calls, failed, cache_hits, tokens}], dearest first; project null is all.
CREATE OR REPLACE FUNCTION public.cost_breakdown(
    start_date date, end_date date, group_by text DEFAULT 'model', project text DEFAULT NULL
) RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT coalesce(pg_catalog.jsonb_agg(
        pg_catalog.jsonb_build_object(
            'key', b.group_key, 'cost_nano', public.cost_nano(b.cost_usd), 'calls', b.calls, 'failed', b.failed,
            'cache_hits', b.cache_hits, 'tokens', b.tokens)
        ORDER BY b.cost_usd DESC, b.group_key), '[]')
    FROM public.get_cost_breakdown(start_date, end_date, group_by, project) b
$$;

-- The spend of as_of's month, to its end; as_of is a day, null the project's today. From the last full days before it, at
-- most 7, and none before the project's first: with their mean m, their standard deviation s, their number k,
--   expected = spent before as_of + the larger of as_of's spend and m + m * days after as_of
--   low, high = expected -+ 2 * s * sqrt(n * (1 + n / k)), n = days after as_of + 1, never below what is spent already
-- which is the error of a sum of n days foretold by the mean of k, two standard errors wide, days taken as alike and
-- independent. With fewer than 3 full days there is no forecast, and the three are null.
-- Returns {as_of, ends, spent_nano, basis_days, mean_nano, expected_nano, low_nano, high_nano}; ends is the last day.
CREATE OR REPLACE FUNCTION public.cost_forecast(project text, as_of date DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    today    date := coalesce(as_of, public.cost_day(project, pg_catalog.now()));
    month    date := public.budget_starts('month', today);
    last_day date := public.budget_ends('month', month) - 1;
    before   numeric;
    so_far   numeric;
    k        numeric;
    m        numeric;
    s        numeric;
    n        numeric := last_day - today + 1;
    expected numeric;
    margin   numeric;
BEGIN
    SELECT coalesce(sum(d.cost_nano) FILTER (WHERE d.day < today), 0),
        coalesce(sum(d.cost_nano) FILTER (WHERE d.day = today), 0)
    INTO before, so_far FROM public.cost_daily d
    WHERE d.project = cost_forecast.project AND d.day BETWEEN month AND today;
    SELECT count(*), avg(full_day.nano), stddev_samp(full_day.nano) INTO k, m, s
    FROM (
        SELECT (
            SELECT coalesce(sum(d.cost_nano), 0) FROM public.cost_daily d
            WHERE d.project = cost_forecast.project AND d.day = g.day) AS nano
        FROM (SELECT today - back AS day FROM pg_catalog.generate_series(1, 7) back) g
        WHERE EXISTS (
            SELECT FROM public.cost_daily d
            WHERE d.project = cost_forecast.project AND d.day <= g.day AND d.calls > 0)
    ) full_day;
    IF k >= 3 THEN
        expected := before + GREATEST(so_far, m) + m * (n - 1);
        margin := 2 * s * pg_catalog.sqrt(n * (1 + n / k));
    END IF;
    RETURN pg_catalog.jsonb_build_object(
        'as_of', today, 'ends', last_day, 'spent_nano', (before + so_far)::bigint, 'basis_days', k::integer,
        'mean_nano', round(m)::bigint, 'expected_nano', round(expected)::bigint,
        'low_nano', CASE WHEN k >= 3 THEN round(GREATEST(expected - margin, before + so_far))::bigint END,
        'high_nano', round(expected + margin)::bigint);
END $$;

-- The windows that are open now, as [{scope, window, starts, limit_nano, spent_nano, reserved_nano, over_nano,
-- resets_at}]: the project's own first, then the fullest, at most 500. `limits` (as in reserve_cost) are shown though
-- nothing was spent under them yet. Changes nothing, so that a reader may call it.
CREATE OR REPLACE FUNCTION public.budget_status(project text, limits jsonb DEFAULT '[]') RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    today date := public.cost_day(project, pg_catalog.now());
BEGIN
    RETURN (
        WITH given AS (
            SELECT l.scope, l."window", l.limit_nano
              FROM pg_catalog.jsonb_to_recordset(limits) l(scope text, "window" text, limit_nano bigint)
        ), opened AS (
            SELECT w.scope, w."window", w.starts, coalesce(g.limit_nano, w.limit_nano) AS limit_nano, w.spent_nano,
                   w.reserved_nano, w.over_nano
              FROM public.budget_windows w LEFT JOIN given g ON g.scope = w.scope AND g."window" = w."window"
             WHERE w.project = budget_status.project AND w.starts = public.budget_starts(w."window", today)
        ), unopened AS (
            SELECT n.scope, n."window", public.budget_starts(n."window", today) AS starts, max(n.limit_nano) AS limit_nano
              FROM (SELECT * FROM given
                    UNION ALL VALUES ('project', 'day', NULL::bigint), ('project', 'month', NULL)) n
             WHERE NOT EXISTS (SELECT FROM opened o WHERE o.scope = n.scope AND o."window" = n."window")
             GROUP BY n.scope, n."window"
        )
        SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(status)), '[]') FROM (
            SELECT every.*, public.budget_resets_at(project, every."window", every.starts) AS resets_at
              FROM (SELECT * FROM opened
                    UNION ALL
                    SELECT u.*, truth.spent_nano, truth.reserved_nano, truth.over_nano FROM unopened u
                     CROSS JOIN LATERAL public.budget_truth(project, u.scope, u."window", u.starts) truth) every
             ORDER BY every.scope <> 'project',
                (every.spent_nano + every.reserved_nano)::numeric / nullif(every.limit_nano, 0) DESC NULLS LAST,
                every.scope, every."window"
             LIMIT 500) status);
END $$;

-- The nightly proof: what is wrong, one row per difference. It is STABLE, so all of it sees one snapshot, and nobody
-- has to wait while it reads. `since` spares the days before.
CREATE OR REPLACE FUNCTION public.check_cost_ledger(project text, since date DEFAULT '0001-01-01')
RETURNS TABLE (what text, counted numeric, truth numeric)
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT pg_catalog.format('cost_daily %s', key), coalesce(d.amount, 0), coalesce(c.amount, 0)
        FROM (
            SELECT pg_catalog.format('%s/%s/%s/%s/%s', t.day, t.provider, t.model, t.step, v.name) AS key, v.amount
            FROM public.cost_daily t CROSS JOIN LATERAL (
                VALUES ('calls', t.calls::numeric), ('failed', t.failed), ('cache_hits', t.cache_hits),
                       ('tokens', t.tokens), ('cost_nano', t.cost_nano), ('over_nano', t.over_nano)) v(name, amount)
            WHERE t.project = check_cost_ledger.project AND t.day >= since
        ) d FULL JOIN (
            SELECT pg_catalog.format('%s/%s/%s/%s/%s', t.day, t.provider, t.model, t.step, v.name) AS key, v.amount
            FROM (
                SELECT t.day, t.provider, t.model, coalesce(t.step, '') AS step, sum(t.calls) AS calls,
                    coalesce(sum(t.calls) FILTER (WHERE t.status <> 'ok'), 0) AS failed,
                    coalesce(sum(t.calls) FILTER (WHERE t.kind = 'cache_hit'), 0) AS cache_hits,
                    sum(t.tokens_used) AS tokens,
                    sum(public.cost_nano(t.cost_usd)) AS cost_nano, sum(public.cost_over(t)) AS over_nano
                FROM public.cost_tracking t WHERE t.project = check_cost_ledger.project AND t.day >= since
                GROUP BY 1, 2, 3, 4
            ) t CROSS JOIN LATERAL (
                VALUES ('calls', t.calls::numeric), ('failed', t.failed), ('cache_hits', t.cache_hits),
                       ('tokens', t.tokens), ('cost_nano', t.cost_nano), ('over_nano', t.over_nano)) v(name, amount)
        ) c USING (key)
        WHERE coalesce(d.amount, 0) <> coalesce(c.amount, 0);
    RETURN QUERY
        SELECT pg_catalog.format('cost_daily_users %s', key), coalesce(d.amount, 0), coalesce(c.amount, 0)
        FROM (
            SELECT pg_catalog.format('%s/%s/%s', t.day, t.user_id, v.name) AS key, v.amount
            FROM public.cost_daily_users t CROSS JOIN LATERAL (
                VALUES ('calls', t.calls::numeric), ('failed', t.failed), ('cache_hits', t.cache_hits),
                       ('tokens', t.tokens), ('cost_nano', t.cost_nano), ('over_nano', t.over_nano)) v(name, amount)
            WHERE t.project = check_cost_ledger.project AND t.day >= since
        ) d FULL JOIN (
            SELECT pg_catalog.format('%s/%s/%s', t.day, t.user_id, v.name) AS key, v.amount
            FROM (
                SELECT t.day, t.user_id, sum(t.calls) AS calls,
                    coalesce(sum(t.calls) FILTER (WHERE t.status <> 'ok'), 0) AS failed,
                    coalesce(sum(t.calls) FILTER (WHERE t.kind = 'cache_hit'), 0) AS cache_hits,
                    sum(t.tokens_used) AS tokens,
                    sum(public.cost_nano(t.cost_usd)) AS cost_nano, sum(public.cost_over(t)) AS over_nano
                FROM public.cost_tracking t
                WHERE t.project = check_cost_ledger.project AND t.day >= since AND t.user_id IS NOT NULL
                GROUP BY 1, 2
            ) t CROSS JOIN LATERAL (
                VALUES ('calls', t.calls::numeric), ('failed', t.failed), ('cache_hits', t.cache_hits),
                       ('tokens', t.tokens), ('cost_nano', t.cost_nano), ('over_nano', t.over_nano)) v(name, amount)
        ) c USING (key)
        WHERE coalesce(d.amount, 0) <> coalesce(c.amount, 0);
    RETURN QUERY
        SELECT pg_catalog.format('budget_windows %s/%s/%s/%s', w.scope, w."window", w.starts, v.name),
            v.counted, v.truth
        FROM public.budget_windows w
        CROSS JOIN LATERAL public.budget_truth(w.project, w.scope, w."window", w.starts) t
        CROSS JOIN LATERAL (
            VALUES ('spent_nano', w.spent_nano::numeric, t.spent_nano::numeric),
                   ('over_nano', w.over_nano, t.over_nano),
                   ('reserved_nano', w.reserved_nano, t.reserved_nano)) v(name, counted, truth)
        WHERE w.project = check_cost_ledger.project AND public.budget_ends(w."window", w.starts) > since
            AND v.counted <> v.truth;
END $$;

SELECT public.llm_common_secure_functions(ARRAY[
    'cost_time_zone', 'cost_day', 'set_cost_time_zone', 'budget_starts', 'budget_ends', 'budget_resets_at',
    'cost_scopes', 'cost_gate', 'cost_spent_today', 'cost_nano', 'cost_over', 'budget_truth', 'budget_open',
    'budget_move', 'budget_fit', 'budget_alerts', 'cost_rollup', 'cost_count', 'cost_paid',
    'cost_of_reservation', 'cost_expire', 'reserve_cost', 'cost_key_used', 'cost_reservation_check',
    'cost_grow', 'extend_cost', 'adopt_cost', 'settle_cost', 'release_cost', 'expire_reservations',
    'record_cost', 'cost_host_row', 'cost_host_count', 'llm_common_flush', 'get_daily_cost', 'get_monthly_cost', 'get_cost_breakdown', 'cost_total',
    'cost_breakdown', 'cost_forecast', 'budget_status', 'check_cost_ledger', 'cost_true_bound', 'cost_note_price']);

NOTIFY pgrst, 'reload schema';
SELECT public.llm_common_record('20261201100100_ledger.sql', '25d05b34b0b83d3f82b82c2f85c4b69cae25c9cf571121f81cf8457e553a9d36');
COMMIT;
