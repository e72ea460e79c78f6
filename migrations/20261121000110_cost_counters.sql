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
        SELECT public.cost_nano(sum(c.cost_usd)), sum(public.cost_over(c)) INTO spent_nano, over_nano
        FROM public.cost_tracking c
        WHERE c.project = of_project AND c.run_id = value AND c.day >= of_starts AND c.day < ends;
    WHEN 'tag' THEN
        SELECT public.cost_nano(sum(c.cost_usd)), sum(public.cost_over(c)) INTO spent_nano, over_nano
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
        (paid).day, (paid).project, (paid).provider, (paid).model, coalesce((paid).step, ''), sign,
        sign * ((paid).status <> 'ok')::integer, sign * ((paid).kind = 'cache_hit')::integer,
        sign * (paid).tokens_used, sign * public.cost_nano((paid).cost_usd), sign * public.cost_over(paid))
    ON CONFLICT ON CONSTRAINT cost_daily_pkey DO UPDATE SET
        calls = d.calls + excluded.calls, failed = d.failed + excluded.failed,
        cache_hits = d.cache_hits + excluded.cache_hits, tokens = d.tokens + excluded.tokens,
        cost_nano = d.cost_nano + excluded.cost_nano, over_nano = d.over_nano + excluded.over_nano;
    INSERT INTO public.cost_daily_users AS u
        (day, project, user_id, calls, failed, cache_hits, tokens, cost_nano, over_nano)
    SELECT (paid).day, (paid).project, (paid).user_id, sign,
        sign * ((paid).status <> 'ok')::integer, sign * ((paid).kind = 'cache_hit')::integer,
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

DO $$
DECLARE
    mine regprocedure;
BEGIN
    FOR mine IN
        SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
            'budget_truth', 'budget_open', 'budget_move', 'budget_fit',
            'budget_alerts', 'cost_rollup', 'cost_count', 'cost_paid',
            'cost_of_reservation', 'cost_expire')
    LOOP
        PERFORM public.llm_common_secure_function(mine);
    END LOOP;
END $$;

NOTIFY pgrst, 'reload schema';
