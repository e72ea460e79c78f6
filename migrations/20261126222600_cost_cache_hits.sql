-- Cache hits in the ledger, many to a row: a row for each would cost more than the hit does.

ALTER TABLE public.cost_tracking ADD COLUMN IF NOT EXISTS calls bigint NOT NULL DEFAULT 1;

-- What was paid has a row of its own, always.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conname = 'cost_tracking_gathers_cache_hits'
                       AND c.conrelid = 'public.cost_tracking'::regclass) THEN
        ALTER TABLE public.cost_tracking ADD CONSTRAINT cost_tracking_gathers_cache_hits
            CHECK (calls = 1 OR calls > 1 AND kind = 'cache_hit' AND cost_usd = 0);
    END IF;
END $$;

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
                SELECT t.day, t.user_id, sum(t.calls) AS calls,
                    coalesce(sum(t.calls) FILTER (WHERE t.status <> 'ok'), 0) AS failed,
                    coalesce(sum(t.calls) FILTER (WHERE t.kind = 'cache_hit'), 0) AS cache_hits,
                    sum(t.tokens_used) AS tokens,
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

NOTIFY pgrst, 'reload schema';
