-- Reports: what was spent, what the budgets have left, and the proof that the counters tell the truth. They read the
-- rollups, never the rows; only the proof does.

-- In dollars; without a project the sum of all of them.
CREATE OR REPLACE FUNCTION public.get_daily_cost(target_date date, project text DEFAULT NULL) RETURNS numeric
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT (coalesce(sum(d.cost_nano), 0) * 0.000000001) FROM public.cost_daily d
    WHERE d.day = target_date AND (get_daily_cost.project IS NULL OR d.project = get_daily_cost.project)
$$;

CREATE OR REPLACE FUNCTION public.get_monthly_cost(target_year integer, target_month integer, project text DEFAULT NULL)
RETURNS numeric
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    month date;
BEGIN
    IF (target_month BETWEEN 1 AND 12 AND target_year BETWEEN 1 AND 9999) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = pg_catalog.format(
            'there is no month %s of year %s', target_month, target_year);
    END IF;
    month := pg_catalog.make_date(target_year, target_month, 1);
    RETURN (
        SELECT (coalesce(sum(d.cost_nano), 0) * 0.000000001) FROM public.cost_daily d
        WHERE d.day >= month AND d.day < (month + INTERVAL '1 month')::date
            AND (get_monthly_cost.project IS NULL OR d.project = get_monthly_cost.project));
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
-- nothing was spent under them yet.
CREATE OR REPLACE FUNCTION public.budget_status(project text, limits jsonb DEFAULT '[]') RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    today date := public.cost_day(project, pg_catalog.now());
BEGIN
    PERFORM public.cost_gate(project);
    PERFORM public.budget_open(project, today, limits);
    UPDATE public.budget_windows w SET limit_nano = l.limit_nano
    FROM pg_catalog.jsonb_to_recordset(limits) l(scope text, "window" text, limit_nano bigint)
    WHERE w.project = budget_status.project AND w.scope = l.scope AND w."window" = l."window"
        AND w.starts = public.budget_starts(l."window", today) AND w.limit_nano IS DISTINCT FROM l.limit_nano;
    RETURN (
        SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.to_jsonb(status)), '[]') FROM (
            SELECT w.scope, w."window", w.starts, w.limit_nano, w.spent_nano, w.reserved_nano, w.over_nano,
                public.budget_resets_at(w.project, w."window", w.starts) AS resets_at
            FROM public.budget_windows w
            WHERE w.project = budget_status.project AND w.starts = public.budget_starts(w."window", today)
            ORDER BY w.scope <> 'project',
                (w.spent_nano + w.reserved_nano)::numeric / nullif(w.limit_nano, 0) DESC NULLS LAST, w.scope, w."window"
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
                SELECT t.day, t.provider, t.model, coalesce(t.step, '') AS step, count(*) AS calls,
                    count(*) FILTER (WHERE t.status <> 'ok') AS failed,
                    count(*) FILTER (WHERE t.kind = 'cache_hit') AS cache_hits, sum(t.tokens_used) AS tokens,
                    public.cost_nano(sum(t.cost_usd)) AS cost_nano, sum(public.cost_over(t)) AS over_nano
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
                SELECT t.day, t.user_id, count(*) AS calls, count(*) FILTER (WHERE t.status <> 'ok') AS failed,
                    count(*) FILTER (WHERE t.kind = 'cache_hit') AS cache_hits, sum(t.tokens_used) AS tokens,
                    public.cost_nano(sum(t.cost_usd)) AS cost_nano, sum(public.cost_over(t)) AS over_nano
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

DO $$
DECLARE
    mine regprocedure;
BEGIN
    FOR mine IN
        SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
            'get_daily_cost', 'get_monthly_cost', 'get_cost_breakdown', 'cost_total',
            'cost_breakdown', 'cost_forecast', 'budget_status', 'check_cost_ledger')
    LOOP
        PERFORM public.llm_common_secure_function(mine);
    END LOOP;
END $$;

NOTIFY pgrst, 'reload schema';
