-- What the migrations come to: every table, index, constraint, policy and function, as pg_dump shows them.
-- Written by `make docs`, and compared with a migrated database by a test.

CREATE FUNCTION public.adopt_cost(call jsonb, limits jsonb, hold_seconds double precision, reserved_at timestamp with time zone) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    AS $$
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

CREATE FUNCTION public.budget_alerts(of_project text, on_day date, limits jsonb) RETURNS jsonb
    LANGUAGE sql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.budget_ends(of_window text, starts date) RETURNS date
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
    SELECT CASE of_window WHEN 'day' THEN starts + 1
                          WHEN 'month' THEN (starts + INTERVAL '1 month')::date
                          WHEN 'total' THEN DATE 'infinity' END
$$;

CREATE TABLE public.cost_reservations (
    id uuid NOT NULL,
    project text NOT NULL,
    day date NOT NULL,
    kind text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    step text,
    run_id text,
    user_id text,
    tags jsonb NOT NULL,
    scopes text[] NOT NULL,
    limits jsonb NOT NULL,
    bound_nano bigint NOT NULL,
    extension uuid,
    hold interval NOT NULL,
    reserved_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    idempotency_key text,
    CONSTRAINT cost_reservations_bound_is_an_amount CHECK (((bound_nano >= 0) AND (bound_nano <= '999999999999999999'::bigint)))
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='2000');

CREATE FUNCTION public.budget_fit(held public.cost_reservations, more_nano bigint, OUT spent_nano bigint, OUT limits_changed boolean) RETURNS record
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.budget_move(of_project text, on_day date, of_scopes text[], reserved bigint, spent bigint, over bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    month date := public.budget_starts('month', on_day);
    ever  date := public.budget_starts('total', on_day);
BEGIN
    UPDATE public.budget_windows AS w
    SET reserved_nano = w.reserved_nano + reserved, spent_nano = w.spent_nano + spent, over_nano = w.over_nano + over
    WHERE w.project = of_project AND w.scope = ANY (of_scopes) AND w.starts IN (on_day, month, ever)
        AND w.starts = CASE w."window" WHEN 'day' THEN on_day WHEN 'month' THEN month ELSE ever END;
END $$;

CREATE FUNCTION public.budget_open(of_project text, on_day date, limits jsonb) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.budget_resets_at(of_project text, of_window text, starts date) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT CASE WHEN of_window <> 'total' THEN pg_catalog.to_char(
        public.budget_ends(of_window, starts)::timestamp AT TIME ZONE public.cost_time_zone(of_project)
            AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"') END
$$;

CREATE FUNCTION public.budget_starts(of_window text, on_day date) RETURNS date
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
    SELECT CASE of_window WHEN 'day' THEN on_day
                          WHEN 'month' THEN pg_catalog.date_trunc('month', on_day::timestamp)::date
                          WHEN 'total' THEN DATE '0001-01-01' END
$$;

CREATE FUNCTION public.budget_status(project text, limits jsonb DEFAULT '[]'::jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.budget_truth(of_project text, of_scope text, of_window text, of_starts date, OUT spent_nano bigint, OUT over_nano bigint, OUT reserved_nano bigint) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.check_cost_ledger(project text, since date DEFAULT '0001-01-01'::date) RETURNS TABLE(what text, counted numeric, truth numeric)
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.claim_runs(worker text, code_version text, max_runs integer, lease_seconds double precision) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
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

CREATE FUNCTION public.cleanup_conversations(days integer DEFAULT 90) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    cutoff timestamptz := pg_catalog.now() - pg_catalog.make_interval(days => days);
    deleted integer;
BEGIN
    IF days IS NULL OR days < 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002',
            MESSAGE = pg_catalog.format('cleanup_conversations: days must be 1 or more, not %L', days);
    END IF;
    DELETE FROM public.conversation_summaries s WHERE s.created_at < cutoff;
    DELETE FROM public.conversations c WHERE c."timestamp" < cutoff;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;

CREATE FUNCTION public.cleanup_response_cache(max_rows integer DEFAULT 10000) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    -- A variable, because an index cannot be searched for a function that is called anew for each row.
    moment  timestamptz := pg_catalog.clock_timestamp();
    deleted integer;
BEGIN
    DELETE FROM public.llm_response_cache x WHERE x.cache_key = ANY (ARRAY(
        SELECT c.cache_key FROM public.llm_response_cache c
         WHERE c.expires_at <= moment
         ORDER BY c.expires_at LIMIT max_rows FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    DELETE FROM public.llm_response_forgotten x WHERE (x.project, x.user_id) IN (
        SELECT f.project, f.user_id FROM public.llm_response_forgotten f
         WHERE f.forgotten_at < moment - INTERVAL '1 day' FOR UPDATE SKIP LOCKED);
    RETURN deleted;
END $$;

CREATE FUNCTION public.cleanup_search_cache() RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    deleted integer;
BEGIN
    DELETE FROM public.web_search_leases x WHERE x.cache_key = ANY (ARRAY(
        SELECT l.cache_key FROM public.web_search_leases l
         WHERE l.held_until <= pg_catalog.clock_timestamp() ORDER BY l.cache_key FOR UPDATE SKIP LOCKED));
    DELETE FROM public.web_search_cache x WHERE x.cache_key = ANY (ARRAY(
        SELECT c.cache_key FROM public.web_search_cache c
         WHERE greatest(c.fresh_until, c.stale_until, CASE c.provider WHEN '' THEN c.cached_at + INTERVAL '1 day' END)
               <= pg_catalog.clock_timestamp()
         ORDER BY c.cache_key FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;

CREATE FUNCTION public.compare_models(start_date date, end_date date, step text DEFAULT NULL::text) RETURNS TABLE(model text, runs bigint, pass_rate numeric, avg_quality numeric, cost_per_run numeric, tokens_per_run numeric, p50_latency_ms bigint, p95_latency_ms bigint)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.compare_pipelines(start_date date, end_date date, spec text DEFAULT 'legislation'::text, shared_only boolean DEFAULT false) RETURNS TABLE(code_version text, models jsonb, first_run timestamp with time zone, runs bigint, completed bigint, failed bigint, insufficient bigint, pass_rate numeric, avg_quality numeric, scored bigint, avg_left_out numeric, avg_rounds numeric, cost_per_run numeric, tokens_per_run numeric, p50_seconds numeric, p95_seconds numeric)
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.compare_runs(run_ids jsonb) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT coalesce(pg_catalog.jsonb_agg(
               pg_catalog.to_jsonb(c) - 'cost_per_run'
               || pg_catalog.jsonb_build_object('cost_per_run_nano', (c.cost_per_run * 1000000000)::bigint)
               ORDER BY c.first_run, c.spec, c.code_version, c.models), '[]')
      FROM public.pipeline_comparison(
           ARRAY(SELECT e.value::uuid FROM pg_catalog.jsonb_array_elements_text(run_ids) e)) c
$$;

CREATE FUNCTION public.complete_run(lease jsonb, result jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.conversation_backlog(owner text, keep integer, max_messages integer, max_characters integer, clip integer) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
DECLARE
    newest public.conversation_summaries;
    window_start bigint;
    due jsonb;
BEGIN
    SELECT * INTO newest FROM public.conversation_summaries s
     WHERE s.user_id = owner ORDER BY s.covers_through DESC LIMIT 1;
    SELECT min(w.seq) INTO window_start
      FROM (SELECT c.seq FROM public.conversations c WHERE c.user_id = owner ORDER BY c.seq DESC LIMIT keep) AS w;

    SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'id', b.seq, 'role', b.role, 'content', pg_catalog."left"(b.content, clip),
               'clipped', greatest(b.length - clip, 0)) ORDER BY b.seq)
      INTO due
      FROM (SELECT o.*, pg_catalog.sum(least(o.length, clip)) OVER (ORDER BY o.seq) AS characters,
                   pg_catalog.row_number() OVER (ORDER BY o.seq) AS place
              FROM (SELECT c.seq, c.role, c.content, pg_catalog.char_length(c.content) AS length
                      FROM public.conversations c
                     WHERE c.user_id = owner AND c.seq > coalesce(newest.covers_through, 0) AND c.seq < window_start
                     ORDER BY c.seq LIMIT max_messages) AS o) AS b
     WHERE b.place = 1 OR b.characters <= max_characters;

    RETURN pg_catalog.jsonb_build_object('summary_id', newest.id, 'summary', newest.summary,
                                         'messages', coalesce(due, '[]'));
END $$;

CREATE FUNCTION public.conversation_context(owner text, on_page text, newest integer) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.jsonb_build_object(
        'summary', (SELECT s.summary FROM public.conversation_summaries s
                     WHERE s.user_id = owner ORDER BY s.covers_through DESC LIMIT 1),
        'messages', coalesce((
            SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                       'id', c.seq, 'role', c.role, 'content', c.content, 'timestamp', c."timestamp", 'page', c.page)
                   ORDER BY c.seq)
              FROM public.conversations c
             WHERE c.user_id = owner AND c.seq IN (
                   SELECT w.seq FROM public.conversations w
                    WHERE w.user_id = owner AND w.content <> ''
                          AND (on_page IS NULL OR w.page IS NULL OR w.page = on_page)
                    ORDER BY w.seq DESC LIMIT newest)
        ), '[]'))
$$;

CREATE FUNCTION public.conversation_forget(owner text) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    messages integer;
    summaries integer;
BEGIN
    PERFORM public.conversation_lock(owner);
    DELETE FROM public.conversation_summaries s WHERE s.user_id = owner;
    GET DIAGNOSTICS summaries = ROW_COUNT;
    DELETE FROM public.conversations c WHERE c.user_id = owner;
    GET DIAGNOSTICS messages = ROW_COUNT;
    RETURN pg_catalog.jsonb_build_object('messages', messages, 'summaries', summaries);
END $$;

CREATE FUNCTION public.conversation_forget_message(owner text, message_id bigint) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    messages integer;
    summaries integer := 0;
BEGIN
    PERFORM public.conversation_lock(owner);
    DELETE FROM public.conversations c WHERE c.user_id = owner AND c.seq = message_id;
    GET DIAGNOSTICS messages = ROW_COUNT;
    IF messages > 0 THEN
        DELETE FROM public.conversation_summaries s WHERE s.user_id = owner AND s.covers_through >= message_id;
        GET DIAGNOSTICS summaries = ROW_COUNT;
    END IF;
    RETURN pg_catalog.jsonb_build_object('messages', messages, 'summaries', summaries);
END $$;

CREATE FUNCTION public.conversation_history(owner text, newest integer, before_id bigint) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'id', c.seq, 'role', c.role, 'content', c.content, 'timestamp', c."timestamp", 'page', c.page)
           ORDER BY c.seq), '[]')
      FROM public.conversations c
     WHERE c.user_id = owner AND c.seq IN (
           SELECT w.seq FROM public.conversations w
            WHERE w.user_id = owner AND (before_id IS NULL OR w.seq < before_id)
            ORDER BY w.seq DESC LIMIT newest)
$$;

CREATE FUNCTION public.conversation_host_row() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
BEGIN
    NEW.id := coalesce(NEW.id, pg_catalog.gen_random_uuid());
    NEW.user_id := coalesce(NEW.user_id, '');
    NEW.role := coalesce(NEW.role, 'user');
    NEW.content := coalesce(NEW.content, '');
    NEW."timestamp" := coalesce(NEW."timestamp", pg_catalog.clock_timestamp());
    RETURN NEW;
END $$;

CREATE FUNCTION public.conversation_lock(owner text) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('llm_common.conversations:' || owner, 0))
$$;

CREATE FUNCTION public.conversation_recall(owner text, query text, at_most integer) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
DECLARE
    lexemes text[] := pg_catalog.tsvector_to_array(pg_catalog.to_tsvector('pg_catalog.simple', query));
    quoted text[] := ARRAY(
        SELECT '''' || pg_catalog.replace(pg_catalog.replace(l, E'\\', E'\\\\'), '''', '''''') || ''''
          FROM pg_catalog.unnest(lexemes) AS l);
    any_word tsquery := pg_catalog.array_to_string(quoted, ' | ')::tsquery;
    all_words tsquery := pg_catalog.websearch_to_tsquery('pg_catalog.simple', query);
    folded text := pg_catalog.lower(query);
BEGIN
    RETURN coalesce((
        SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                   'id', found.seq, 'role', found.role, 'content', found.content,
                   'timestamp', found."timestamp", 'page', found.page) ORDER BY found.place)
          FROM (SELECT c.seq, c.role, c.content, c."timestamp", c.page,
                       pg_catalog.row_number() OVER (
                           ORDER BY (c.words @@ all_words OR literal.is_in) DESC,
                                    pg_catalog.ts_rank(c.words, any_word) DESC, c.seq DESC) AS place
                  FROM public.conversations c
                 CROSS JOIN LATERAL (
                       SELECT pg_catalog.strpos(pg_catalog.lower(c.content), folded) > 0 AS is_in) AS literal
                 WHERE c.user_id = owner AND (c.words @@ any_word OR c.words @@ all_words OR literal.is_in)
                 ORDER BY place LIMIT at_most) AS found
    ), '[]');
END $$;

CREATE FUNCTION public.conversation_save(owner text, said_by text, said text, on_page text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    new_seq bigint;
BEGIN
    IF (owner <> '' AND said_by IN ('system', 'user', 'assistant', 'tool')
        AND pg_catalog.octet_length(said) BETWEEN 1 AND 1048576) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = pg_catalog.format(
            'a message has an owner, a role (system, user, assistant or tool) and 1 to 1048576 bytes; this one is of '
            'owner %L, role %L and has %s bytes', owner, said_by, pg_catalog.octet_length(said));
    END IF;
    PERFORM public.conversation_lock(owner);
    INSERT INTO public.conversations (user_id, role, content, page)
    VALUES (owner, said_by, said, on_page)
    RETURNING seq INTO new_seq;
    RETURN new_seq;
END $$;

CREATE FUNCTION public.conversation_save_summary(owner text, previous_id bigint, through_id bigint, message_count integer, summary_text text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    newest public.conversation_summaries;
    still_there bigint;
BEGIN
    PERFORM public.conversation_lock(owner);
    SELECT * INTO newest FROM public.conversation_summaries s
     WHERE s.user_id = owner ORDER BY s.covers_through DESC LIMIT 1;
    IF newest.id IS DISTINCT FROM previous_id THEN
        RETURN false;
    END IF;
    SELECT count(*) INTO still_there FROM public.conversations c
     WHERE c.user_id = owner AND c.seq > coalesce(newest.covers_through, 0) AND c.seq <= through_id;
    IF still_there <> message_count THEN
        RETURN false;
    END IF;
    INSERT INTO public.conversation_summaries (user_id, covers_through, summary)
    VALUES (owner, through_id, summary_text);
    RETURN true;
END $$;

CREATE FUNCTION public.cost_breakdown(start_date date, end_date date, group_by text DEFAULT 'model'::text, project text DEFAULT NULL::text) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT coalesce(pg_catalog.jsonb_agg(
        pg_catalog.jsonb_build_object(
            'key', b.group_key, 'cost_nano', public.cost_nano(b.cost_usd), 'calls', b.calls, 'failed', b.failed,
            'cache_hits', b.cache_hits, 'tokens', b.tokens)
        ORDER BY b.cost_usd DESC, b.group_key), '[]')
    FROM public.get_cost_breakdown(start_date, end_date, group_by, project) b
$$;

CREATE TABLE public.cost_tracking (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    project text DEFAULT 'default'::text NOT NULL,
    day date NOT NULL,
    "timestamp" timestamp with time zone DEFAULT now() NOT NULL,
    kind text DEFAULT 'host'::text NOT NULL,
    provider text DEFAULT ''::text NOT NULL,
    model text NOT NULL,
    model_answered text,
    step text,
    run_id text,
    user_id text,
    tags jsonb DEFAULT '{}'::jsonb NOT NULL,
    input_tokens bigint DEFAULT 0 NOT NULL,
    cache_read_tokens bigint DEFAULT 0 NOT NULL,
    cache_write_tokens bigint DEFAULT 0 NOT NULL,
    cache_write_1h_tokens bigint DEFAULT 0 NOT NULL,
    output_tokens bigint DEFAULT 0 NOT NULL,
    reasoning_tokens bigint DEFAULT 0 NOT NULL,
    tokens_used bigint DEFAULT 0 NOT NULL,
    cost_usd numeric(18,9) NOT NULL,
    bound_usd numeric(18,9),
    price_source text DEFAULT 'override'::text NOT NULL,
    status text DEFAULT 'ok'::text NOT NULL,
    latency_ms bigint,
    attempts integer DEFAULT 1 NOT NULL,
    idempotency_key text,
    calls bigint DEFAULT 1 NOT NULL
);

CREATE FUNCTION public.cost_count(paid public.cost_tracking, sign integer) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    SELECT public.budget_move(
        (paid).project, (paid).day,
        public.cost_scopes((paid).user_id, (paid).model, (paid).run_id, (paid).tags),
        0, sign * public.cost_nano((paid).cost_usd), sign * public.cost_over(paid));
    SELECT public.cost_rollup(paid, sign)
$$;

CREATE FUNCTION public.cost_day(of_project text, at timestamp with time zone) RETURNS date
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT (at AT TIME ZONE coalesce(
        (SELECT p.time_zone FROM public.cost_projects p WHERE p.project = of_project), 'UTC'))::date
$$;

CREATE FUNCTION public.cost_expire(held public.cost_reservations) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.cost_forecast(project text, as_of date DEFAULT NULL::date) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.cost_gate(of_project text) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.pg_advisory_xact_lock(421, pg_catalog.hashtext(of_project))
$$;

CREATE FUNCTION public.cost_grow(before public.cost_reservations, more_nano bigint, of_extension uuid, of_model text, of_provider text, limits jsonb) RETURNS public.cost_reservations
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.cost_host_count() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
BEGIN
    PERFORM public.cost_gate(NEW.project);
    PERFORM public.cost_count(NEW, 1);
    RETURN NULL;
END $$;

CREATE FUNCTION public.cost_host_row() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.cost_key_used(project text, key text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = pg_catalog.format(
        'idempotency key %L was already used in project %s, so nothing was reserved or recorded; '
        'a new call needs a new key', key, project);
END $$;

CREATE FUNCTION public.cost_nano(cost_usd numeric) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
    SELECT CASE WHEN cost_usd > 0 AND cost_usd <> 'NaN' THEN (cost_usd * 1000000000)::bigint
                WHEN cost_usd IS NOT NULL THEN 0 END
$$;

CREATE FUNCTION public.cost_note_price(paid public.cost_tracking, listed_nano bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.cost_of_reservation(held public.cost_reservations) RETURNS public.cost_tracking
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
DECLARE
    base public.cost_tracking;
BEGIN
    base := pg_catalog.jsonb_populate_record(NULL::public.cost_tracking, pg_catalog.to_jsonb(held));
    base."timestamp" := held.reserved_at;
    base.bound_usd := held.bound_nano * 0.000000001;
    RETURN base;
END $$;

CREATE FUNCTION public.cost_over(paid public.cost_tracking) RETURNS bigint
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
    SELECT public.cost_nano((paid).cost_usd - coalesce((paid).bound_usd, (paid).cost_usd))
$$;

CREATE FUNCTION public.cost_paid(base public.cost_tracking, outcome jsonb) RETURNS public.cost_tracking
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.cost_reservation_check(held public.cost_reservations, hold_seconds double precision) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $_$
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
END $_$;

CREATE FUNCTION public.cost_rollup(paid public.cost_tracking, sign integer) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.cost_scopes(user_id text, model text, run_id text, tags jsonb) RETURNS text[]
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.array_remove(ARRAY['project', 'user:' || user_id, 'model:' || model, 'run:' || run_id], NULL)
           || ARRAY(SELECT 'tag:' || t.key || '=' || t.value FROM pg_catalog.jsonb_each_text(tags) t ORDER BY 1)
$$;

CREATE FUNCTION public.cost_spent_today(of_project text) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.cost_time_zone(of_project text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT coalesce((SELECT p.time_zone FROM public.cost_projects p WHERE p.project = of_project), 'UTC')
$$;

CREATE FUNCTION public.cost_total(project text, from_day date DEFAULT NULL::date, to_day date DEFAULT NULL::date) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.jsonb_build_object(
        'cost_nano', coalesce(sum(d.cost_nano), 0)::bigint, 'calls', coalesce(sum(d.calls), 0)::bigint,
        'failed', coalesce(sum(d.failed), 0)::bigint, 'cache_hits', coalesce(sum(d.cache_hits), 0)::bigint,
        'tokens', coalesce(sum(d.tokens), 0)::bigint)
    FROM public.cost_daily d
    WHERE d.project = cost_total.project
        AND d.day BETWEEN coalesce(from_day, public.cost_day(cost_total.project, pg_catalog.now()))
                      AND coalesce(to_day, public.cost_day(cost_total.project, pg_catalog.now()))
$$;

CREATE FUNCTION public.cost_true_bound(of_provider text, of_model text, bound_nano bigint) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.ceil(bound_nano * coalesce((
        SELECT f.factor FROM public.cost_price_factors f
         WHERE f.provider = of_provider AND f.model = of_model), 1))::bigint
$$;

CREATE FUNCTION public.enqueue_runs(runs jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.expire_reservations(max_rows integer DEFAULT 100, project text DEFAULT NULL::text) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    AS $$
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

CREATE FUNCTION public.extend_cost(reservation_id uuid, more_nano bigint, extension_id uuid, model text DEFAULT NULL::text, provider text DEFAULT NULL::text, limits jsonb DEFAULT '[]'::jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    AS $_$
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
END $_$;

CREATE FUNCTION public.finish_step(lease jsonb, step jsonb, reservation_id uuid, outcome jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    state text := public.pipeline_hold(lease);
BEGIN
    IF state <> 'fenced' THEN
        PERFORM public.pipeline_store(lease, step, reservation_id);
    END IF;
    RETURN pg_catalog.jsonb_build_object('state', state, 'settlement', public.settle_cost(reservation_id, outcome));
END $$;

CREATE FUNCTION public.get_cache_stats() RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    WITH grouped AS (
        SELECT grouping(s.day) AS any_day, grouping(s.provider) AS any_provider, s.day, s.provider,
               coalesce(sum(s.memory_hits), 0)::bigint AS memory_hits,
               coalesce(sum(s.db_hits), 0)::bigint AS db_hits,
               coalesce(sum(s.stale_hits), 0)::bigint AS stale_hits,
               coalesce(sum(s.coalesced), 0)::bigint AS coalesced,
               coalesce(sum(s.misses), 0)::bigint AS misses,
               coalesce(sum(s.errors), 0)::bigint AS errors,
               coalesce(sum(s.upstream_requests), 0)::bigint AS upstream_requests,
               coalesce(sum(s.skipped_items), 0)::bigint AS skipped_items,
               coalesce(sum(s.spent_nano), 0)::bigint AS spent_nano,
               coalesce(sum(s.saved_nano), 0)::bigint AS saved_nano
          FROM public.web_search_stats s
         GROUP BY GROUPING SETS ((), (s.day), (s.provider))
    ), counted AS (
        SELECT g.*, g.memory_hits + g.db_hits + g.stale_hits + g.coalesced AS cache_hits,
               g.memory_hits + g.db_hits + g.stale_hits + g.coalesced + g.misses + g.errors AS total_searches
          FROM grouped g
    ), described AS (
        SELECT c.any_day, c.any_provider, c.day, c.provider, pg_catalog.jsonb_build_object(
                   'total_searches', c.total_searches, 'cache_hits', c.cache_hits,
                   'hit_rate', coalesce(pg_catalog.round(c.cache_hits::numeric / nullif(c.total_searches, 0), 6), 0),
                   'memory_hits', c.memory_hits, 'db_hits', c.db_hits, 'stale_hits', c.stale_hits,
                   'coalesced', c.coalesced, 'misses', c.misses, 'errors', c.errors,
                   'upstream_requests', c.upstream_requests, 'skipped_items', c.skipped_items,
                   'spent_nano', c.spent_nano, 'saved_nano', c.saved_nano) AS figures
          FROM counted c
    )
    SELECT (SELECT d.figures FROM described d WHERE d.any_day = 1 AND d.any_provider = 1)
           || pg_catalog.jsonb_build_object(
                  'entries', (SELECT count(*) FROM public.web_search_cache),
                  'by_day', (SELECT coalesce(pg_catalog.jsonb_object_agg(d.day, d.figures), '{}')
                               FROM described d WHERE d.any_day = 0),
                  'by_provider', (SELECT coalesce(pg_catalog.jsonb_object_agg(d.provider, d.figures), '{}')
                                    FROM described d WHERE d.any_provider = 0))
$$;

CREATE FUNCTION public.get_cost_breakdown(start_date date, end_date date, group_by text DEFAULT 'model'::text, project text DEFAULT NULL::text) RETURNS TABLE(group_key text, cost_usd numeric, calls bigint, failed bigint, cache_hits bigint, tokens bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.get_daily_cost(target_date date, project text DEFAULT NULL::text) RETURNS TABLE(total_cost numeric)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT coalesce(sum(d.cost_nano), 0) * 0.000000001 FROM public.cost_daily d
    WHERE d.day = target_date AND (get_daily_cost.project IS NULL OR d.project = get_daily_cost.project)
$$;

CREATE FUNCTION public.get_monthly_cost(target_year integer, target_month integer, project text DEFAULT NULL::text) RETURNS TABLE(total_cost numeric)
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.get_run(run_id uuid) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.list_runs(wanted jsonb DEFAULT '{}'::jsonb) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT coalesce(pg_catalog.jsonb_agg(public.pipeline_run_json(latest) - '{analysis_json,review_json}'::text[]
                                         ORDER BY (latest).started_at DESC), '[]')
      FROM (SELECT r AS latest FROM public.pipeline_runs r
             WHERE (wanted ->> 'status' IS NULL OR r.status = wanted ->> 'status')
                   AND (wanted ->> 'bill_id' IS NULL OR r.bill_id = wanted ->> 'bill_id')
             ORDER BY r.started_at DESC
             LIMIT LEAST(coalesce((wanted ->> 'limit')::integer, 50), 1000)) found_runs
$$;

CREATE FUNCTION public.llm_common_close_table(target regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
BEGIN
    EXECUTE pg_catalog.format('DROP POLICY IF EXISTS llm_common_as_before ON %s', target);
    EXECUTE pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s', target, public.llm_common_shut_out());
END $$;

CREATE FUNCTION public.llm_common_constrain(target regclass, constraint_name text, condition text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid = target AND c.conname = constraint_name) THEN
        EXECUTE pg_catalog.format(
            'ALTER TABLE %s ADD CONSTRAINT %I CHECK (%s) NOT VALID', target, constraint_name, condition);
    END IF;
END $$;

CREATE FUNCTION public.llm_common_convert(target regclass, checked text[], changes text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    reachers  text := public.llm_common_reachers(target, chosen => true);
    strangers text := public.llm_common_reachers(target, chosen => false);
    remake    text[] := public.llm_common_take_views(target) || public.llm_common_take_policies(target);
    statement text;
BEGIN
    FOR statement IN
        SELECT pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', target, k.conname)
          FROM pg_catalog.pg_constraint k
         WHERE k.conrelid = target AND k.contype = 'c' AND EXISTS (
               SELECT FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = target AND a.attnum = ANY (k.conkey) AND a.attname = ANY (checked))
    LOOP
        EXECUTE statement;
    END LOOP;
    EXECUTE pg_catalog.format('ALTER TABLE %s %s', target, changes);

    -- The operators between text and uuid are in public, and what is made again may need them.
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, public', true);
    FOREACH statement IN ARRAY remake LOOP
        EXECUTE statement;
    END LOOP;
    PERFORM pg_catalog.set_config('search_path', '', true);

    IF strangers IS NOT NULL THEN
        EXECUTE pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s', target, strangers);
    END IF;
    IF reachers IS NOT NULL THEN
        EXECUTE pg_catalog.format(
            'CREATE POLICY llm_common_as_before ON %s TO %s USING (true) WITH CHECK (true)', target, reachers);
    END IF;
END $$;

CREATE FUNCTION public.llm_common_flush() RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.pg_logical_emit_message(true, 'llm_common', '')
$$;

CREATE FUNCTION public.llm_common_functions_in_the_way() RETURNS TABLE(name text, called regprocedure)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    WITH ours (name, arguments, result) AS (VALUES
        ('get_daily_cost', 'target_date date, project text', 'TABLE(total_cost numeric)'),
        ('get_monthly_cost', 'target_year integer, target_month integer, project text', 'TABLE(total_cost numeric)'),
        ('get_cost_breakdown', 'start_date date, end_date date, group_by text, project text',
         'TABLE(group_key text, cost_usd numeric, calls bigint, failed bigint, cache_hits bigint, tokens bigint)'),
        ('compare_models', 'start_date date, end_date date, step text',
         'TABLE(model text, runs bigint, pass_rate numeric, avg_quality numeric, cost_per_run numeric, '
         'tokens_per_run numeric, p50_latency_ms bigint, p95_latency_ms bigint)'),
        ('get_cache_stats', '', 'jsonb'),
        ('cleanup_search_cache', '', 'integer'),
        ('cleanup_conversations', 'days integer', 'integer')
    ), typed AS (
        SELECT o.*, ARRAY(SELECT pg_catalog.split_part(a.word, ' ', 2)::regtype::oid
                            FROM pg_catalog.regexp_split_to_table(o.arguments, ', ') WITH ORDINALITY AS a (word, n)
                           WHERE a.word <> '' ORDER BY a.n) AS types
          FROM ours o
    )
    SELECT t.name, p.oid::regprocedure
      FROM typed t JOIN pg_catalog.pg_proc p ON p.proname = t.name AND p.pronamespace = 'public'::regnamespace
     WHERE ARRAY(SELECT a FROM pg_catalog.unnest(p.proargtypes) a) = t.types[1:p.pronargs]
           AND (pg_catalog.pg_get_function_identity_arguments(p.oid), pg_catalog.pg_get_function_result(p.oid))
               IS DISTINCT FROM (t.arguments, t.result)
$$;

CREATE FUNCTION public.llm_common_let_in() RETURNS SETOF text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT r.rolname::text FROM pg_catalog.pg_roles r
     WHERE r.rolname IN ('service_role', 'llm_common_app', 'llm_common_read') ORDER BY 1
$$;

CREATE FUNCTION public.llm_common_look_first() RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
DECLARE
    foreigners text := (
        SELECT pg_catalog.string_agg(pg_catalog.format('public.%s is not ours: %s', t.name, t.reason), '; ' ORDER BY t.name)
          FROM public.llm_common_tables() t WHERE t.state = 'foreign');
BEGIN
    IF foreigners IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LC010', MESSAGE = foreigners
            || '. Nothing was changed. Rename it (ALTER TABLE ... RENAME TO ...), or use a database where the name is free';
    END IF;
END $$;

CREATE FUNCTION public.llm_common_make_room(VARIADIC names text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    found regprocedure;
BEGIN
    FOR found IN SELECT f.called FROM public.llm_common_functions_in_the_way() f WHERE f.name = ANY (names) LOOP
        EXECUTE pg_catalog.format('DROP ROUTINE %s', found);
    END LOOP;
END $$;

CREATE FUNCTION public.llm_common_reachers(target regclass, chosen boolean) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.string_agg(r.name, ', ' ORDER BY r.name) FROM (
        SELECT public.llm_common_role(g.grantee) AS name, pg_catalog.bool_or(g.privilege_type = 'TRUNCATE') AS has_all
          FROM pg_catalog.pg_class c
          CROSS JOIN LATERAL (
               SELECT * FROM pg_catalog.aclexplode(c.relacl)
               UNION ALL
               SELECT a.* FROM pg_catalog.pg_attribute f, pg_catalog.aclexplode(f.attacl) a WHERE f.attrelid = c.oid) g
         WHERE c.oid = target AND NOT c.relrowsecurity AND g.grantee <> c.relowner
         GROUP BY g.grantee) r
     WHERE r.name NOT IN ('service_role', 'llm_common_app', 'llm_common_read')
           AND (r.name IN ('anon', 'authenticated') AND r.has_all) <> chosen
$$;

CREATE FUNCTION public.llm_common_record(file text, sha256 text) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    INSERT INTO public.llm_common_migrations (name, checksum) VALUES (file, sha256)
    ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, applied_at = excluded.applied_at
$$;

CREATE FUNCTION public.llm_common_role(role oid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE role::regrole::text END
$$;

CREATE FUNCTION public.llm_common_secure_functions(names text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    found  record;
    wanted text;
BEGIN
    FOR found IN
        SELECT p.oid::regprocedure AS called, p.prorettype = 'pg_catalog.trigger'::regtype AS is_trigger,
               p.provolatile <> 'v' AS only_reads
          FROM pg_catalog.pg_proc p
         WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY (names)
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM %s', found.called, public.llm_common_shut_out());
        FOR wanted IN
            SELECT l FROM public.llm_common_let_in() l
             WHERE NOT found.is_trigger AND (found.only_reads OR l <> 'llm_common_read')
        LOOP
            EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO %I', found.called, wanted);
        END LOOP;
    END LOOP;
END $$;

CREATE FUNCTION public.llm_common_secure_table(target regclass, hidden text[] DEFAULT '{}'::text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    wanted   text;
    policy   text;
    rights   text;
    sequence regclass;
BEGIN
    -- Looked at first, because each ALTER waits for everybody who uses the table.
    IF NOT (SELECT c.relrowsecurity FROM pg_catalog.pg_class c WHERE c.oid = target) THEN
        EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_policy p
         WHERE p.polrelid = target
               AND p.polname NOT IN ('llm_common_service_role', 'llm_common_app', 'llm_common_read')
    ) THEN
        EXECUTE pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s', target, public.llm_common_shut_out());
    END IF;
    FOR wanted IN SELECT * FROM public.llm_common_let_in() LOOP
        rights := CASE
            WHEN wanted = 'llm_common_read' AND hidden = '{}' THEN 'SELECT'
            WHEN wanted = 'llm_common_read' THEN (
                SELECT pg_catalog.format('SELECT (%s)', pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', '))
                  FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (hidden))
            WHEN wanted = 'llm_common_app' AND target = 'public.llm_common_migrations'::regclass THEN 'SELECT'
            ELSE 'SELECT, INSERT, UPDATE, DELETE' END;
        EXECUTE pg_catalog.format('GRANT %s ON TABLE %s TO %I', rights, target, wanted);
        policy := CASE wanted WHEN 'service_role' THEN 'llm_common_service_role' ELSE wanted END;
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = target AND p.polname = policy) THEN
            EXECUTE pg_catalog.format('CREATE POLICY %I ON %s FOR %s TO %I USING (true)%s', policy, target,
                CASE wanted WHEN 'llm_common_read' THEN 'SELECT' ELSE 'ALL' END, wanted,
                CASE WHEN wanted <> 'llm_common_read' THEN ' WITH CHECK (true)' END);
        END IF;
    END LOOP;

    -- Columns that number themselves (identity, serial) have a sequence, with rights of its own.
    FOR sequence IN
        SELECT d.objid::regclass FROM pg_catalog.pg_depend d
          JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
         WHERE d.refobjid = target AND d.deptype IN ('a', 'i')
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON SEQUENCE %s FROM %s', sequence, public.llm_common_shut_out());
        FOR wanted IN SELECT l FROM public.llm_common_let_in() l WHERE l <> 'llm_common_read' LOOP
            EXECUTE pg_catalog.format('GRANT USAGE ON SEQUENCE %s TO %I', sequence, wanted);
        END LOOP;
    END LOOP;
END $$;

CREATE FUNCTION public.llm_common_shut_out() RETURNS text
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.concat_ws(', ', 'PUBLIC', pg_catalog.string_agg(pg_catalog.quote_ident(r.rolname), ', '))
      FROM pg_catalog.pg_roles r
     WHERE r.rolname IN ('anon', 'authenticated')
$$;

CREATE FUNCTION public.llm_common_tables() RETURNS TABLE(name text, state text, reason text)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    WITH known (name, ours, earlier) AS (VALUES
        ('llm_common_migrations', 'name checksum applied_at', NULL),
        ('cost_projects', 'project time_zone', NULL),
        ('cost_tracking', 'id project day timestamp kind model cost_usd bound_usd tags',
         'id:uuid! model:text cost_usd:number timestamp:time step:text? tokens_used:number? project:text?'),
        ('cost_reservations', 'id project day bound_nano hold reserved_at expires_at scopes limits', NULL),
        ('budget_windows', 'project scope starts window limit_nano reserved_nano spent_nano over_nano', NULL),
        ('cost_daily', 'day project provider model step calls failed cache_hits tokens cost_nano over_nano', NULL),
        ('cost_daily_users', 'day project user_id calls failed cache_hits tokens cost_nano over_nano', NULL),
        ('cost_alerts', 'project scope starts window threshold limit_nano spent_nano fired_at', NULL),
        ('cost_price_factors', 'provider model factor seen_at', NULL),
        ('web_search_cache', 'cache_key query results cached_at hit_count query_folded provider fresh_until stale_until',
         'cache_key:text! query:text results:json cached_at:time hit_count:number?'),
        ('web_search_leases', 'cache_key query_folded token held_until', NULL),
        ('web_search_stats', 'day provider shard memory_hits db_hits misses errors spent_nano saved_nano', NULL),
        ('search_documents', 'url host title content published stored_at words', NULL),
        ('llm_response_cache', 'cache_key project user_id answer stored_at expires_at', NULL),
        ('llm_response_forgotten', 'project user_id forgotten_at', NULL),
        ('rate_limit_buckets', 'namespace key requests_full_at tokens_full_at', NULL),
        ('rate_limit_slots', 'namespace key permit held_until', NULL),
        ('pipeline_runs', 'id bill_id models status input code_version epoch lease_until attempts run_at',
         'id:uuid! bill_id:text status:text started_at:time jurisdiction:text? research_model:text? generate_model:text? '
         'review_model:text? completed_at:time? analysis_json:json? review_json:json? review_passed:flag? '
         'quality_score:number? error_message:text?'),
        ('pipeline_steps', 'id run_id key position step status output code_version epoch reservation_id',
         'id:uuid! run_id:uuid step:text timestamp:time output:json? model:text?'),
        ('conversations', 'id user_id role content timestamp page words',
         'id:uuid! user_id:owner role:text content:text timestamp:time page:text?'),
        ('conversation_summaries', 'id user_id covers_through summary created_at', NULL),
        ('rollout_flags', 'flag percentage enabled epoch rolled_back_at rollback_reason version updated_at', NULL),
        ('rollout_outcomes', 'id flag epoch arm ok seconds cost_nano shadow compared difference recorded_at', NULL)
    ), wanted AS (
        SELECT k.name, pg_catalog.split_part(w.word, ':', 1) AS attname,
               pg_catalog.rtrim(pg_catalog.split_part(w.word, ':', 2), '!?') AS kind,
               pg_catalog.right(w.word, 1) = '!' AS is_key, pg_catalog.right(w.word, 1) = '?' AS may_be_missing
          FROM known k, pg_catalog.regexp_split_to_table(k.earlier, ' ') AS w (word)
    ), columns AS (
        SELECT c.relname AS name, c.oid AS relid, a.attname, a.attnum,
               pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
               CASE WHEN t.typname IN ('timestamp', 'timestamptz') THEN 'time' WHEN t.typname IN ('json', 'jsonb') THEN 'json'
                    WHEN t.typname = 'uuid' THEN 'uuid' WHEN t.typcategory IN ('S', 'E') THEN 'text'
                    WHEN t.typcategory = 'N' THEN 'number' WHEN t.typcategory = 'B' THEN 'flag' END AS kind,
               a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS must_be_given
          FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
         WHERE c.relnamespace = 'public'::pg_catalog.regnamespace
    ), faults AS (
        SELECT w.name, pg_catalog.format('it has no column %s', w.attname) AS fault
          FROM wanted w LEFT JOIN columns c ON c.name = w.name AND c.attname = w.attname
         WHERE c.attname IS NULL AND NOT w.may_be_missing
        UNION ALL
        SELECT w.name, pg_catalog.format('its column %s is of type %s', w.attname, c.type)
          FROM wanted w JOIN columns c ON c.name = w.name AND c.attname = w.attname
         WHERE (c.kind = w.kind OR w.kind = 'owner' AND c.kind IN ('text', 'uuid', 'number')) IS NOT TRUE
        UNION ALL
        SELECT w.name, pg_catalog.format('its primary key is not %s', w.attname)
          FROM wanted w JOIN columns c ON c.name = w.name AND c.attname = w.attname
         WHERE w.is_key AND NOT EXISTS (
               SELECT FROM pg_catalog.pg_constraint k
                WHERE k.conrelid = c.relid AND k.contype = 'p' AND k.conkey = ARRAY[c.attnum])
        UNION ALL
        SELECT c.name, pg_catalog.format('its column %s must be given by whoever writes', c.attname)
          FROM columns c JOIN known k ON k.name = c.name AND k.earlier IS NOT NULL
         WHERE c.must_be_given AND NOT EXISTS (SELECT FROM wanted w WHERE w.name = c.name AND w.attname = c.attname)
        UNION ALL
        SELECT w.name, pg_catalog.format('its column %s, which becomes text, refers to %s; drop the foreign key %I first',
                                         w.attname, f.confrelid::pg_catalog.regclass, f.conname)
          FROM wanted w JOIN columns c ON c.name = w.name AND c.attname = w.attname
          JOIN pg_catalog.pg_constraint f ON f.conrelid = c.relid AND f.contype = 'f' AND c.attnum = ANY (f.conkey)
         WHERE w.kind = 'owner' AND c.kind <> 'text'
    )
    SELECT k.name,
           CASE WHEN r.oid IS NULL THEN 'missing' WHEN r.relkind <> 'r' THEN 'foreign' WHEN own.has_all THEN 'ours'
                WHEN k.earlier IS NOT NULL AND fault.first IS NULL THEN 'earlier' ELSE 'foreign' END,
           CASE WHEN r.relkind <> 'r' THEN 'it is no ordinary table'
                WHEN NOT own.has_all THEN coalesce(fault.first, pg_catalog.format('it has no column %s', own.first_missing)) END
      FROM known k
      LEFT JOIN pg_catalog.pg_class r ON r.relname = k.name AND r.relnamespace = 'public'::pg_catalog.regnamespace
      CROSS JOIN LATERAL (
           SELECT pg_catalog.count(c.attname) = pg_catalog.count(*) AS has_all,
                  pg_catalog.min(o.attname) FILTER (WHERE c.attname IS NULL) AS first_missing
             FROM pg_catalog.regexp_split_to_table(k.ours, ' ') AS o (attname)
             LEFT JOIN columns c ON c.name = k.name AND c.attname = o.attname) own
      CROSS JOIN LATERAL (SELECT pg_catalog.min(f.fault) AS first FROM faults f
                           WHERE f.name = k.name AND k.earlier IS NOT NULL) fault
$$;

CREATE FUNCTION public.llm_common_take_policies(target regclass) RETURNS text[]
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    remake text[] := '{}';
    found  record;
BEGIN
    FOR found IN
        SELECT p.polname, p.polrelid::regclass AS on_table,
               pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname, p.polrelid::regclass,
                   CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                   CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                                 WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                   (SELECT pg_catalog.string_agg(public.llm_common_role(r), ', ') FROM pg_catalog.unnest(p.polroles) r),
                   ' USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')',
                   ' WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')') AS definition
          FROM pg_catalog.pg_policy p
         WHERE EXISTS (SELECT FROM pg_catalog.pg_depend d
                        WHERE d.objid = p.oid AND d.classid = 'pg_catalog.pg_policy'::regclass
                              AND d.refobjid = target AND d.refobjsubid > 0)
    LOOP
        EXECUTE pg_catalog.format('DROP POLICY %I ON %s', found.polname, found.on_table);
        remake := remake || found.definition;
    END LOOP;
    RETURN remake;
END $$;

CREATE FUNCTION public.llm_common_take_views(target regclass) RETURNS text[]
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    remake text[] := '{}';
    found  record;
BEGIN
    FOR found IN
        WITH RECURSIVE above (oid, depth) AS (
            SELECT r.ev_class, 1 FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
             WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refobjid = target AND r.ev_class <> target
            UNION
            SELECT r.ev_class, a.depth + 1 FROM above a
              JOIN pg_catalog.pg_depend d ON d.refobjid = a.oid AND d.classid = 'pg_catalog.pg_rewrite'::regclass
              JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND r.ev_class <> a.oid
        )
        SELECT c.oid, c.oid::regclass::text AS name, c.relacl, c.relowner,
               CASE c.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END AS kind,
               ' WITH (' || pg_catalog.array_to_string(c.reloptions, ', ') || ')' AS options,
               pg_catalog.rtrim(pg_catalog.pg_get_viewdef(c.oid), ';') AS definition,
               pg_catalog.obj_description(c.oid, 'pg_class') AS comment
          FROM above a JOIN pg_catalog.pg_class c ON c.oid = a.oid
         GROUP BY c.oid ORDER BY max(a.depth) DESC
    LOOP
        remake := pg_catalog.format('CREATE %s %s%s AS %s', found.kind, found.name, found.options, found.definition)
            || ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid) FROM pg_catalog.pg_index i
                      WHERE i.indrelid = found.oid)
            || ARRAY(
                SELECT pg_catalog.format('REVOKE ALL ON %s FROM %s', found.name, public.llm_common_role(g.grantee))
                  FROM pg_catalog.pg_default_acl d, pg_catalog.aclexplode(d.defaclacl) g
                 WHERE d.defaclobjtype = 'r' AND d.defaclrole = CURRENT_USER::regrole AND g.grantee <> d.defaclrole)
            || ARRAY(
                SELECT pg_catalog.format('GRANT %s ON %s TO %s%s', g.privilege_type, found.name,
                           public.llm_common_role(g.grantee), CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END)
                  FROM pg_catalog.aclexplode(found.relacl) g WHERE g.grantee <> found.relowner)
            || pg_catalog.format('COMMENT ON %s %s IS %L', found.kind, found.name, found.comment)
            || pg_catalog.format('ALTER %s %s OWNER TO %s', found.kind, found.name, found.relowner::regrole)
            || remake;
        EXECUTE pg_catalog.format('DROP %s %s', found.kind, found.name);
    END LOOP;
    RETURN remake;
END $$;

CREATE FUNCTION public.llm_common_text_is_uuid(text, uuid) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path TO ''
    AS $_$
BEGIN
    RETURN $1 = $2::text;
END $_$;

CREATE FUNCTION public.llm_common_uuid_is_text(uuid, text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path TO ''
    AS $_$
BEGIN
    RETURN $1::text = $2;
END $_$;

CREATE TABLE public.pipeline_runs (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    bill_id text NOT NULL,
    jurisdiction text NOT NULL,
    models jsonb DEFAULT '{}'::jsonb NOT NULL,
    research_model text,
    generate_model text,
    review_model text,
    status text DEFAULT 'queued'::text NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    completed_at timestamp with time zone,
    analysis_json jsonb,
    review_json jsonb,
    review_passed boolean,
    quality_score numeric,
    quality_note text,
    scored_at timestamp with time zone,
    error_message text,
    input jsonb,
    code_version text DEFAULT 'host'::text NOT NULL,
    idempotency_key text,
    worker text,
    epoch integer DEFAULT 0 NOT NULL,
    lease_until timestamp with time zone,
    cancel_requested boolean DEFAULT false NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 5 NOT NULL,
    run_at timestamp with time zone DEFAULT now() NOT NULL,
    answered_by text
)
WITH (fillfactor='80', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='5000', vacuum_index_cleanup='on');

CREATE FUNCTION public.pipeline_claim(run public.pipeline_runs, for_worker text, for_code text, lease_seconds double precision) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.pipeline_comparison(run_ids uuid[]) RETURNS TABLE(spec text, code_version text, models jsonb, first_run timestamp with time zone, runs bigint, completed bigint, failed bigint, insufficient bigint, pass_rate numeric, avg_quality numeric, scored bigint, avg_left_out numeric, avg_rounds numeric, cost_per_run numeric, tokens_per_run numeric, p50_seconds numeric, p95_seconds numeric)
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.pipeline_cost_nano(run uuid) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT coalesce(pg_catalog.sum(c.cost_usd) * 1000000000, 0)::bigint
      FROM public.cost_tracking c WHERE c.run_id = run::text
$$;

CREATE FUNCTION public.pipeline_exhaust(run public.pipeline_runs) RETURNS public.pipeline_runs
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    UPDATE public.pipeline_runs r
       SET status = 'failed', lease_until = NULL, completed_at = pg_catalog.clock_timestamp(),
           error_message = CASE WHEN r.input IS NULL THEN 'it began an hour ago or longer, and never ended'
               ELSE pg_catalog.format(
                   'its worker stopped without a word %s times, the last one was %s; resume it once the cause is found',
                   r.attempts, r.worker) END
     WHERE r.id = (run).id
    RETURNING r
$$;

CREATE FUNCTION public.pipeline_handover(claimed public.pipeline_runs) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.jsonb_build_object(
        'state', 'claimed', 'run', public.pipeline_run_json(claimed), 'input', (claimed).input,
        'steps', (SELECT coalesce(pg_catalog.jsonb_object_agg(s.key, s.output), '{}') FROM public.pipeline_steps s
                   WHERE s.run_id = (claimed).id AND s.status = 'completed' AND s.code_version = (claimed).code_version))
$$;

CREATE FUNCTION public.pipeline_hold(lease jsonb) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.pipeline_host_run() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.pipeline_host_step() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.pipeline_key_refusal(known public.pipeline_runs, wanted public.pipeline_runs) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.pipeline_lease_end(seconds double precision) RETURNS timestamp with time zone
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => seconds)
$$;

CREATE FUNCTION public.pipeline_locked(run uuid) RETURNS public.pipeline_runs
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    found_run public.pipeline_runs;
BEGIN
    SELECT * INTO found_run FROM public.pipeline_runs r WHERE r.id = run FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM public.pipeline_unknown(run);
    END IF;
    RETURN found_run;
END $$;

CREATE FUNCTION public.pipeline_put_back(lease jsonb, used integer, wait_seconds double precision, reason text) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.pipeline_run_json(run public.pipeline_runs) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
BEGIN
    run.input := NULL;
    RETURN pg_catalog.to_jsonb(run) - 'input'
           || pg_catalog.jsonb_build_object('cost_nano', public.pipeline_cost_nano(run.id));
END $$;

CREATE FUNCTION public.pipeline_store(lease jsonb, step jsonb, reservation uuid) RETURNS void
    LANGUAGE sql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.pipeline_unknown(run uuid) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'LC004',
        MESSAGE = pg_catalog.format('run %s is not known; llm-common runs list shows those there are', run),
        DETAIL = pg_catalog.jsonb_build_object('run_id', run)::text;
END $$;

CREATE FUNCTION public.queue_status() RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.rate_limit_end(of_namespace text, with_permit uuid, corrections jsonb) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    corrected text[] := ARRAY(SELECT c.key FROM pg_catalog.jsonb_to_recordset(corrections) c(key text));
    known     record;
    freed     integer;
BEGIN
    PERFORM public.rate_limit_gates(of_namespace, corrected);
    FOR known IN
        SELECT c.* FROM pg_catalog.jsonb_to_recordset(corrections) c(key text, requests_us bigint, tokens_us bigint)
        WHERE c.requests_us <> 0 OR c.tokens_us <> 0
    LOOP
        UPDATE public.rate_limit_buckets b
        SET requests_full_at = b.requests_full_at + known.requests_us,
            tokens_full_at = b.tokens_full_at + known.tokens_us
        WHERE b.namespace = of_namespace AND b.key = known.key;
    END LOOP;
    DELETE FROM public.rate_limit_slots s
    WHERE s.namespace = of_namespace AND s.key = ANY (corrected) AND s.permit = with_permit;
    GET DIAGNOSTICS freed = ROW_COUNT;
    RETURN freed;
END $$;

CREATE FUNCTION public.rate_limit_gates(of_namespace text, keys text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    gate integer;
BEGIN
    FOR gate IN
        SELECT DISTINCT pg_catalog.hashtext(of_namespace || '/' || k.key) AS hash
        FROM pg_catalog.unnest(keys) k(key) ORDER BY hash
    LOOP
        PERFORM pg_catalog.pg_advisory_xact_lock(422, gate);
    END LOOP;
    -- A crash may forget the last moments of a bucket: nobody need wait for the disk, least of all behind the gate.
    PERFORM pg_catalog.set_config('synchronous_commit', 'off', true);
END $$;

CREATE FUNCTION public.rate_limit_take(of_namespace text, with_permit uuid, demands jsonb, lease_seconds double precision) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    demanded text[] := ARRAY(SELECT d.key FROM pg_catalog.jsonb_to_recordset(demands) d(key text));
    moment   timestamptz;
    now_us   bigint;
    refusals jsonb;
    wanted   record;
BEGIN
    PERFORM public.rate_limit_gates(of_namespace, demanded);
    -- Only now: whoever had the gates before may have kept us waiting.
    moment := pg_catalog.clock_timestamp();
    now_us := (extract(epoch FROM moment) * 1000000)::bigint;

    INSERT INTO public.rate_limit_buckets (namespace, key)
    SELECT of_namespace, d.key FROM pg_catalog.unnest(demanded) d(key)
    WHERE NOT EXISTS (
        SELECT FROM public.rate_limit_buckets b WHERE b.namespace = of_namespace AND b.key = d.key)
    ON CONFLICT DO NOTHING;

    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'key', d.key, 'limit', r."limit", 'wait_us', r.wait_us) ORDER BY d.key, r."limit"), '[]')
    INTO refusals
    FROM pg_catalog.jsonb_to_recordset(demands) d(
        key text, concurrency integer, requests_us bigint, requests_spare_us bigint,
        tokens_us bigint, tokens_spare_us bigint)
    -- One look for each demand: OFFSET keeps it from becoming a join.
    CROSS JOIN LATERAL (
        SELECT x.requests_full_at, x.tokens_full_at FROM public.rate_limit_buckets x
        WHERE x.namespace = of_namespace AND x.key = d.key OFFSET 0
    ) b
    CROSS JOIN LATERAL (
        SELECT 'requests_per_minute' AS "limit", b.requests_full_at - d.requests_spare_us - now_us AS wait_us
        WHERE b.requests_full_at - d.requests_spare_us > now_us
        UNION ALL
        SELECT 'tokens_per_minute', b.tokens_full_at - d.tokens_spare_us - now_us
        WHERE b.tokens_full_at - d.tokens_spare_us > now_us
        UNION ALL
        SELECT 'concurrency', NULL
        WHERE d.concurrency <= (
            SELECT count(*) FROM public.rate_limit_slots s
            WHERE s.namespace = of_namespace AND s.key = d.key AND s.held_until > moment AND s.permit <> with_permit)
    ) r;
    IF refusals <> '[]' THEN
        RETURN refusals;
    END IF;

    FOR wanted IN
        SELECT d.* FROM pg_catalog.jsonb_to_recordset(demands) d(key text, requests_us bigint, tokens_us bigint)
        WHERE d.requests_us IS NOT NULL OR d.tokens_us IS NOT NULL
    LOOP
        UPDATE public.rate_limit_buckets b
        SET requests_full_at = CASE WHEN wanted.requests_us IS NULL THEN b.requests_full_at
                ELSE greatest(b.requests_full_at, now_us) + wanted.requests_us END,
            tokens_full_at = CASE WHEN wanted.tokens_us IS NULL THEN b.tokens_full_at
                ELSE greatest(b.tokens_full_at, now_us) + wanted.tokens_us END
        WHERE b.namespace = of_namespace AND b.key = wanted.key;
    END LOOP;

    DELETE FROM public.rate_limit_slots s
    WHERE s.namespace = of_namespace AND s.key = ANY (demanded) AND s.held_until <= moment;
    INSERT INTO public.rate_limit_slots (namespace, key, permit, held_until)
    SELECT of_namespace, d.key, with_permit, moment + pg_catalog.make_interval(secs => lease_seconds)
    FROM pg_catalog.jsonb_to_recordset(demands) d(key text, concurrency integer)
    WHERE d.concurrency IS NOT NULL
    ON CONFLICT ON CONSTRAINT rate_limit_slots_pkey DO UPDATE SET held_until = excluded.held_until;
    RETURN refusals;
END $$;

CREATE FUNCTION public.record_cost(cost jsonb, limits jsonb DEFAULT '[]'::jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    AS $$
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

CREATE FUNCTION public.release_cost(reservation_id uuid) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    AS $$
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

CREATE FUNCTION public.release_run(lease jsonb, wait_seconds double precision, reason text) RETURNS text
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    SELECT public.pipeline_put_back(lease, 0, wait_seconds, reason)
$$;

CREATE FUNCTION public.renew_run_lease(lease jsonb) RETURNS text
    LANGUAGE sql
    SET search_path TO ''
    AS $$ SELECT public.pipeline_hold(lease) $$;

CREATE FUNCTION public.renew_run_leases(leases jsonb) RETURNS jsonb
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    SELECT coalesce(pg_catalog.jsonb_object_agg(l.lease ->> 'run_id', public.pipeline_hold(l.lease)), '{}')
      FROM (SELECT e.value AS lease FROM pg_catalog.jsonb_array_elements(leases) e ORDER BY e.value ->> 'run_id') l
$$;

CREATE FUNCTION public.request_cancel(run_id uuid) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.reserve_cost(call jsonb, limits jsonb DEFAULT '[]'::jsonb, hold_seconds double precision DEFAULT 900) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    AS $$
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

CREATE FUNCTION public.response_cache_forget(project text, user_id text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    of_project text := project;
    of_user    text := user_id;
    deleted    integer;
BEGIN
    IF of_user = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002',
            MESSAGE = 'response_cache_forget: user_id is empty; name a user, or pass null for the whole project';
    ELSIF of_user IS NULL THEN
        PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('llm_response_cache ' || of_project, 0));
    ELSE
        PERFORM pg_catalog.pg_advisory_xact_lock(
            pg_catalog.hashtextextended('llm_response_cache ' || of_project || ' ' || of_user, 1));
    END IF;
    INSERT INTO public.llm_response_forgotten AS f (project, user_id, forgotten_at)
    VALUES (of_project, coalesce(of_user, ''), pg_catalog.clock_timestamp())
    ON CONFLICT ON CONSTRAINT llm_response_forgotten_pkey DO UPDATE SET forgotten_at = excluded.forgotten_at;
    DELETE FROM public.llm_response_cache c
     WHERE c.project = of_project AND (of_user IS NULL OR c.user_id = of_user);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;

CREATE FUNCTION public.response_cache_get(key text) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.jsonb_build_object(
        'ticket', pg_catalog.clock_timestamp(),
        'answer', (SELECT c.answer FROM public.llm_response_cache c
                    WHERE c.cache_key = key AND c.expires_at > pg_catalog.clock_timestamp()))
$$;

CREATE FUNCTION public.response_cache_put(key text, entry jsonb, ttl_seconds double precision, ticket text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    of_project text := entry->>'project';
    of_user    text := entry->>'user_id';
    stored     timestamptz;
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock_shared(
        pg_catalog.hashtextextended('llm_response_cache ' || of_project, 0));
    PERFORM pg_catalog.pg_advisory_xact_lock_shared(
        pg_catalog.hashtextextended('llm_response_cache ' || of_project || ' ' || coalesce(of_user, ''), 1));
    IF EXISTS (SELECT FROM public.llm_response_forgotten f
                WHERE f.project = of_project AND f.user_id IN ('', coalesce(of_user, ''))
                  AND f.forgotten_at >= ticket::timestamptz) THEN
        RETURN false;
    END IF;
    stored := pg_catalog.clock_timestamp();
    INSERT INTO public.llm_response_cache AS c (cache_key, project, user_id, answer, stored_at, expires_at)
    VALUES (key, of_project, of_user, entry->'answer', stored, stored + pg_catalog.make_interval(secs => ttl_seconds))
    ON CONFLICT (cache_key) DO UPDATE
        SET answer = excluded.answer, stored_at = excluded.stored_at, expires_at = excluded.expires_at;
    RETURN true;
END $$;

CREATE FUNCTION public.resume_run(run_id uuid, worker text, code_version text, lease_seconds double precision) RETURNS jsonb
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    SELECT public.pipeline_claim(public.pipeline_locked(run_id), worker, code_version, lease_seconds)
$$;

CREATE FUNCTION public.retry_run(lease jsonb, wait_seconds double precision, reason text) RETURNS text
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    SELECT public.pipeline_put_back(lease, 1, wait_seconds, reason)
$$;

CREATE FUNCTION public.rollout_arm_stats(flag_name text, arm_name text, in_epoch integer, newest integer, max_age_seconds double precision, slow_seconds double precision) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.jsonb_build_object(
               'calls', count(*),
               'errors', count(*) FILTER (WHERE NOT o.ok),
               'succeeded', count(*) FILTER (WHERE o.ok),
               'p95_seconds', pg_catalog.percentile_disc(0.95) WITHIN GROUP (ORDER BY o.seconds) FILTER (WHERE o.ok),
               'slow', count(*) FILTER (WHERE o.ok AND o.seconds > slow_seconds),
               'priced', count(o.cost_nano),
               'mean_cost_nano', pg_catalog.avg(o.cost_nano)::double precision,
               'sd_cost_nano', pg_catalog.stddev_samp(o.cost_nano)::double precision)
      FROM (SELECT * FROM public.rollout_outcomes w
             WHERE w.flag = flag_name AND w.arm = arm_name ORDER BY w.id DESC LIMIT newest) AS o
     WHERE o.epoch = in_epoch
       AND o.recorded_at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => max_age_seconds)
$$;

CREATE FUNCTION public.rollout_get(flag_name text) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.jsonb_build_object(
               'percentage', f.percentage, 'enabled', f.enabled, 'epoch', f.epoch,
               'rolled_back_at', f.rolled_back_at, 'rollback_reason', f.rollback_reason, 'version', f.version)
      FROM public.rollout_flags f WHERE f.flag = flag_name
$$;

CREATE FUNCTION public.rollout_latch(flag_name text, in_epoch integer, reason text) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
BEGIN
    UPDATE public.rollout_flags f
       SET rolled_back_at = pg_catalog.clock_timestamp(), rollback_reason = reason,
           version = f.version + 1, updated_at = pg_catalog.clock_timestamp()
     WHERE f.flag = flag_name AND f.epoch = in_epoch AND f.rolled_back_at IS NULL;
    RETURN CASE WHEN FOUND THEN public.rollout_get(flag_name) END;
END $$;

CREATE FUNCTION public.rollout_prune(flag_name text, arm_name text, keep integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    last_to_go bigint;
    deleted integer;
BEGIN
    SELECT w.id INTO last_to_go FROM public.rollout_outcomes w
     WHERE w.flag = flag_name AND w.arm = arm_name ORDER BY w.id DESC OFFSET keep LIMIT 1;
    DELETE FROM public.rollout_outcomes x WHERE x.id = ANY (ARRAY(
        SELECT o.id FROM public.rollout_outcomes o
         WHERE o.flag = flag_name AND o.arm = arm_name AND o.id <= last_to_go
         ORDER BY o.id LIMIT 1000 FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;

CREATE FUNCTION public.rollout_record(flag_name text, outcomes jsonb, newest integer, max_age_seconds double precision, slow_ratio double precision) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    -- Enough for every guardrail window in use, and for people who look at what differed.
    keep integer := greatest(2000, newest);
    first_id bigint;
    last_id bigint;
BEGIN
    -- Looking first: in the usual case the flag's row is only read.
    IF NOT EXISTS (SELECT FROM public.rollout_flags f WHERE f.flag = flag_name) THEN
        INSERT INTO public.rollout_flags (flag) VALUES (flag_name) ON CONFLICT DO NOTHING;
    END IF;
    WITH stored AS (
        INSERT INTO public.rollout_outcomes (flag, epoch, arm, ok, seconds, cost_nano, shadow, compared, difference)
        SELECT flag_name, o.epoch, o.arm, o.ok, o.seconds, o.cost_nano, coalesce(o.shadow, false),
               coalesce(o.compared, false), o.difference
          FROM pg_catalog.jsonb_to_recordset(outcomes) AS o (
               epoch integer, arm text, ok boolean, seconds double precision, cost_nano bigint, shadow boolean,
               compared boolean, difference text)
        RETURNING id
    )
    SELECT min(id), max(id) INTO first_id, last_id FROM stored;
    -- About once in 256 outcomes.
    IF last_id / 256 > (first_id - 1) / 256 THEN
        PERFORM public.rollout_prune(flag_name, 'old', keep), public.rollout_prune(flag_name, 'new', keep);
    END IF;
    RETURN public.rollout_report(flag_name, newest, max_age_seconds, slow_ratio);
END $$;

CREATE FUNCTION public.rollout_report(flag_name text, newest integer, max_age_seconds double precision, slow_ratio double precision) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
    AS $$
DECLARE
    flag jsonb := public.rollout_get(flag_name);
    in_epoch integer := coalesce((flag->>'epoch')::integer, 1);
    old_arm jsonb := public.rollout_arm_stats(flag_name, 'old', in_epoch, newest, max_age_seconds, NULL);
    slow_seconds double precision := (old_arm->>'p95_seconds')::double precision * slow_ratio;
BEGIN
    RETURN pg_catalog.jsonb_build_object(
        'flag', flag, 'old', old_arm,
        'new', public.rollout_arm_stats(flag_name, 'new', in_epoch, newest, max_age_seconds, slow_seconds));
END $$;

CREATE FUNCTION public.rollout_reset(flag_name text, new_percentage integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
BEGIN
    INSERT INTO public.rollout_flags AS f (flag, percentage) VALUES (flag_name, new_percentage)
    ON CONFLICT (flag) DO UPDATE
        SET percentage = excluded.percentage, epoch = f.epoch + 1, rolled_back_at = NULL, rollback_reason = NULL,
            version = f.version + 1, updated_at = pg_catalog.clock_timestamp();
    RETURN public.rollout_get(flag_name);
END $$;

CREATE FUNCTION public.rollout_set_enabled(flag_name text, is_enabled boolean) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
BEGIN
    INSERT INTO public.rollout_flags AS f (flag, enabled) VALUES (flag_name, is_enabled)
    ON CONFLICT (flag) DO UPDATE
        SET enabled = excluded.enabled, version = f.version + 1, updated_at = pg_catalog.clock_timestamp();
    RETURN public.rollout_get(flag_name);
END $$;

CREATE FUNCTION public.rollout_set_percentage(flag_name text, new_percentage integer) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
BEGIN
    INSERT INTO public.rollout_flags AS f (flag, percentage) VALUES (flag_name, new_percentage)
    ON CONFLICT (flag) DO UPDATE
        SET percentage = excluded.percentage, version = f.version + 1, updated_at = pg_catalog.clock_timestamp();
    RETURN public.rollout_get(flag_name);
END $$;

CREATE FUNCTION public.save_step(lease jsonb, step jsonb) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    state text := public.pipeline_hold(lease);
BEGIN
    IF state <> 'fenced' THEN
        PERFORM public.pipeline_store(lease, step, NULL);
    END IF;
    RETURN state;
END $$;

CREATE FUNCTION public.score_run(run_id uuid, quality double precision, note text DEFAULT NULL::text) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.search_cache_count(batch jsonb) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    counted integer;
BEGIN
    INSERT INTO public.web_search_stats AS s
    SELECT d.day, d.provider, pg_catalog.pg_backend_pid() % 8,
           coalesce(d.memory_hits, 0), coalesce(d.db_hits, 0), coalesce(d.stale_hits, 0), coalesce(d.coalesced, 0),
           coalesce(d.misses, 0), coalesce(d.errors, 0), coalesce(d.upstream_requests, 0),
           coalesce(d.skipped_items, 0), coalesce(d.spent_nano, 0), coalesce(d.saved_nano, 0)
      FROM pg_catalog.jsonb_to_recordset(batch->'days') AS d (
           day date, provider text, memory_hits bigint, db_hits bigint, stale_hits bigint, coalesced bigint,
           misses bigint, errors bigint, upstream_requests bigint, skipped_items bigint, spent_nano bigint,
           saved_nano bigint)
     ORDER BY d.day, d.provider
    ON CONFLICT (day, provider, shard) DO UPDATE
        SET memory_hits = s.memory_hits + excluded.memory_hits,
            db_hits = s.db_hits + excluded.db_hits,
            stale_hits = s.stale_hits + excluded.stale_hits,
            coalesced = s.coalesced + excluded.coalesced,
            misses = s.misses + excluded.misses,
            errors = s.errors + excluded.errors,
            upstream_requests = s.upstream_requests + excluded.upstream_requests,
            skipped_items = s.skipped_items + excluded.skipped_items,
            spent_nano = s.spent_nano + excluded.spent_nano,
            saved_nano = s.saved_nano + excluded.saved_nano;

    PERFORM FROM public.web_search_cache c
      WHERE c.cache_key = ANY (ARRAY(SELECT pg_catalog.jsonb_object_keys(batch->'hits')))
      ORDER BY c.cache_key FOR UPDATE;
    UPDATE public.web_search_cache c
       SET hit_count = coalesce(c.hit_count, 0) + h.value::bigint
      FROM pg_catalog.jsonb_each_text(batch->'hits') AS h
     WHERE c.cache_key = h.key;
    GET DIAGNOSTICS counted = ROW_COUNT;
    RETURN counted;
END $$;

CREATE FUNCTION public.search_cache_get(key text, folded_query text, max_age_seconds double precision, lease_seconds double precision) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    entry public.web_search_cache;
    fresh_until timestamptz;
    own_token uuid;
    hit jsonb;
BEGIN
    SELECT pg_catalog.jsonb_build_object('state', 'hit', 'results', c.results,
               'fresh_seconds', extract(epoch FROM c.fresh_until - pg_catalog.clock_timestamp()))
      INTO hit
      FROM (SELECT e.results,
                   least(e.fresh_until, e.cached_at + pg_catalog.make_interval(secs => max_age_seconds)) AS fresh_until
              FROM public.web_search_cache e WHERE e.cache_key = key) AS c
     WHERE c.fresh_until > pg_catalog.clock_timestamp();
    IF FOUND THEN
        RETURN hit;
    END IF;

    SELECT * INTO entry FROM public.web_search_cache c WHERE c.cache_key = key;
    fresh_until := least(entry.fresh_until, entry.cached_at + pg_catalog.make_interval(secs => max_age_seconds));

    -- Looking before inserting: a crowd of waiters must not write.
    IF coalesce(fresh_until <= pg_catalog.clock_timestamp(), true)
       AND NOT EXISTS (SELECT FROM public.web_search_leases l
                        WHERE l.cache_key = key AND l.held_until > pg_catalog.clock_timestamp()) THEN
        PERFORM pg_catalog.set_config('synchronous_commit', 'off', true);
        INSERT INTO public.web_search_leases AS l (cache_key, query_folded, token, held_until)
        VALUES (key, folded_query, pg_catalog.gen_random_uuid(),
                pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => lease_seconds))
        ON CONFLICT (cache_key) DO UPDATE SET token = excluded.token, held_until = excluded.held_until
            WHERE l.held_until <= pg_catalog.clock_timestamp()
        RETURNING l.token INTO own_token;

        -- The holder before us may have put its answer between our look and our lease.
        SELECT * INTO entry FROM public.web_search_cache c WHERE c.cache_key = key;
        fresh_until := least(entry.fresh_until, entry.cached_at + pg_catalog.make_interval(secs => max_age_seconds));
        IF fresh_until > pg_catalog.clock_timestamp() THEN
            DELETE FROM public.web_search_leases l WHERE l.cache_key = key AND l.token = own_token;
        END IF;
    END IF;

    IF fresh_until > pg_catalog.clock_timestamp() THEN
        RETURN pg_catalog.jsonb_build_object('state', 'hit', 'results', entry.results,
            'fresh_seconds', extract(epoch FROM fresh_until - pg_catalog.clock_timestamp()));
    ELSIF fresh_until + (entry.stale_until - entry.fresh_until) > pg_catalog.clock_timestamp() THEN
        RETURN pg_catalog.jsonb_build_object('state', 'stale', 'results', entry.results, 'lease', own_token);
    ELSIF own_token IS NOT NULL THEN
        RETURN pg_catalog.jsonb_build_object('state', 'lease', 'lease', own_token);
    END IF;
    RETURN pg_catalog.jsonb_build_object('state', 'wait');
END $$;

CREATE FUNCTION public.search_cache_invalidate(scope text, target text) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    deleted integer;
BEGIN
    IF scope IS NULL OR scope NOT IN ('key', 'query', 'prefix', 'all') THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002',
            MESSAGE = pg_catalog.format('search_cache_invalidate: scope must be key, query, prefix or all, not %L', scope);
    END IF;
    DELETE FROM public.web_search_leases x WHERE x.cache_key = ANY (ARRAY(
        SELECT l.cache_key FROM public.web_search_leases l
         WHERE CASE scope WHEN 'key' THEN l.cache_key = target WHEN 'query' THEN l.query_folded = target
                          WHEN 'prefix' THEN pg_catalog.starts_with(l.query_folded, target) ELSE true END
         ORDER BY l.cache_key FOR UPDATE));
    DELETE FROM public.web_search_cache x WHERE x.cache_key = ANY (ARRAY(
        SELECT c.cache_key FROM public.web_search_cache c
         WHERE CASE scope WHEN 'key' THEN c.cache_key = target WHEN 'query' THEN c.query_folded = target
                          WHEN 'prefix' THEN pg_catalog.starts_with(c.query_folded, target) ELSE true END
         ORDER BY c.cache_key FOR UPDATE));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;

CREATE FUNCTION public.search_cache_peek(key text, max_age_seconds double precision) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    SELECT pg_catalog.jsonb_build_object('results', c.results,
               'fresh_seconds', extract(epoch FROM c.fresh_until - pg_catalog.clock_timestamp()))
      FROM (SELECT e.results,
                   least(e.fresh_until, e.cached_at + pg_catalog.make_interval(secs => max_age_seconds)) AS fresh_until
              FROM public.web_search_cache e WHERE e.cache_key = key) AS c
     WHERE c.fresh_until > pg_catalog.clock_timestamp()
$$;

CREATE FUNCTION public.search_cache_put(key text, lease uuid, entry jsonb, fresh_seconds double precision, stale_seconds double precision) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    stored_at timestamptz := pg_catalog.clock_timestamp();
    fresh timestamptz := stored_at + pg_catalog.make_interval(secs => fresh_seconds);
    stale timestamptz := fresh + pg_catalog.make_interval(secs => stale_seconds);
BEGIN
    PERFORM pg_catalog.set_config('synchronous_commit', 'off', true);
    DELETE FROM public.web_search_leases l WHERE l.cache_key = key AND l.token = lease;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO public.web_search_cache AS c
        (cache_key, query, query_folded, provider, results, cached_at, fresh_until, stale_until)
    VALUES (key, entry->>'query', entry->>'query_folded', entry->>'provider', entry->'results', stored_at, fresh, stale)
    ON CONFLICT (cache_key) DO UPDATE
        SET query = excluded.query, results = excluded.results, cached_at = excluded.cached_at,
            fresh_until = excluded.fresh_until, stale_until = excluded.stale_until;
    RETURN true;
END $$;

CREATE FUNCTION public.search_cache_release(key text, lease uuid) RETURNS boolean
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    WITH released AS (
        DELETE FROM public.web_search_leases l WHERE l.cache_key = key AND l.token = lease RETURNING 1
    )
    SELECT EXISTS (SELECT FROM released)
$$;

CREATE FUNCTION public.search_cache_renew(key text, lease uuid, lease_seconds double precision) RETURNS boolean
    LANGUAGE sql
    SET search_path TO ''
    AS $$
    WITH renewed AS (
        UPDATE public.web_search_leases l
           SET held_until = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => lease_seconds)
         WHERE l.cache_key = key AND l.token = lease
        RETURNING 1
    )
    SELECT EXISTS (SELECT FROM renewed)
$$;

CREATE FUNCTION public.search_documents_delete(urls jsonb) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    deleted integer;
BEGIN
    DELETE FROM public.search_documents s
     WHERE urls IS NULL OR pg_catalog.jsonb_typeof(urls) = 'null'
        OR s.url IN (SELECT pg_catalog.jsonb_array_elements_text(urls));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;

CREATE FUNCTION public.search_documents_find(query text, count integer, domains jsonb, since date) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO ''
    AS $$
    WITH asked AS (
        SELECT pg_catalog.string_agg(pg_catalog.quote_literal(w.lexeme), ' | ')::pg_catalog.tsquery AS words
          FROM pg_catalog.unnest(pg_catalog.to_tsvector('pg_catalog.english', query)) AS w
    ), best AS (
        SELECT s.url, s.title, s.content, s.published, a.words,
               -- 1: divided by the logarithm of the length, so that long pages do not win by their length.
               pg_catalog.ts_rank(s.words, a.words, 1) AS score
          FROM asked a JOIN public.search_documents s ON s.words OPERATOR(pg_catalog.@@) a.words
         WHERE (since IS NULL OR s.published IS NULL OR s.published >= since)
           AND (pg_catalog.jsonb_array_length(domains) = 0
                OR EXISTS (SELECT FROM pg_catalog.jsonb_array_elements_text(domains) AS d (domain)
                            WHERE s.host = d.domain OR pg_catalog.right(s.host, pg_catalog.length(d.domain) + 1) = '.' || d.domain))
         ORDER BY score DESC, s.url
         LIMIT count
    )
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'url', b.url, 'title', b.title, 'published', b.published, 'score', b.score,
               'snippet', pg_catalog.ts_headline('pg_catalog.english', pg_catalog.left(b.content, 250000), b.words,
                              'StartSel="", StopSel="", MaxFragments=2, MaxWords=60, MinWords=20, FragmentDelimiter=" ... "')
           ) ORDER BY b.score DESC, b.url), '[]')
      FROM best b
$$;

CREATE FUNCTION public.search_documents_put(documents jsonb) RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    stored integer;
BEGIN
    INSERT INTO public.search_documents AS s (url, host, title, content, published)
    SELECT DISTINCT ON (d.url) d.url, d.host, d.title, d.content, d.published
      FROM pg_catalog.jsonb_to_recordset(documents) AS d (url text, host text, title text, content text, published date)
     ORDER BY d.url
    ON CONFLICT (url) DO UPDATE
        SET host = excluded.host, title = excluded.title, content = excluded.content,
            published = excluded.published, stored_at = pg_catalog.clock_timestamp();
    GET DIAGNOSTICS stored = ROW_COUNT;
    RETURN stored;
END $$;

CREATE FUNCTION public.set_cost_time_zone(project text, time_zone text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.settle_cost(reservation_id uuid, outcome jsonb) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    SET enable_seqscan TO 'off'
    AS $$
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

CREATE FUNCTION public.start_run(run jsonb, worker text, lease_seconds double precision) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.stop_run(lease jsonb, final_status text, error_message text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.sweep_stale_runs(max_rows integer DEFAULT 100) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
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

CREATE FUNCTION public.take_run(run_id uuid, worker text, code_version text, lease_seconds double precision) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
DECLARE
    known public.pipeline_runs := public.pipeline_locked(run_id);
BEGIN
    IF known.status IN ('failed', 'cancelled') THEN
        RETURN pg_catalog.jsonb_build_object('state', 'ended', 'run', public.pipeline_run_json(known));
    END IF;
    RETURN public.pipeline_claim(known, worker, code_version, lease_seconds);
END $$;

CREATE OPERATOR public.= (
    FUNCTION = public.llm_common_text_is_uuid,
    LEFTARG = text,
    RIGHTARG = uuid
);

CREATE OPERATOR public.= (
    FUNCTION = public.llm_common_uuid_is_text,
    LEFTARG = uuid,
    RIGHTARG = text
);

CREATE TABLE public.budget_windows (
    project text NOT NULL,
    scope text NOT NULL,
    starts date NOT NULL,
    "window" text NOT NULL,
    limit_nano bigint,
    reserved_nano bigint NOT NULL,
    spent_nano bigint NOT NULL,
    over_nano bigint NOT NULL,
    CONSTRAINT budget_windows_amounts CHECK ((LEAST(reserved_nano, spent_nano, over_nano) >= 0)),
    CONSTRAINT budget_windows_window CHECK (("window" = ANY (ARRAY['day'::text, 'month'::text, 'total'::text])))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.05');

CREATE TABLE public.conversation_summaries (
    id bigint NOT NULL,
    user_id text NOT NULL,
    covers_through bigint NOT NULL,
    summary text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT conversation_summaries_summary_is_not_empty CHECK ((summary <> ''::text))
);

ALTER TABLE public.conversation_summaries ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.conversation_summaries_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.conversations (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    seq bigint NOT NULL,
    user_id text NOT NULL,
    role text NOT NULL,
    content text NOT NULL,
    "timestamp" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    page text,
    words tsvector GENERATED ALWAYS AS (to_tsvector('simple'::regconfig, "left"(content, 50000))) STORED
);

ALTER TABLE public.conversations ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.conversations_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.cost_alerts (
    project text NOT NULL,
    scope text NOT NULL,
    starts date NOT NULL,
    "window" text NOT NULL,
    threshold numeric NOT NULL,
    limit_nano bigint NOT NULL,
    spent_nano bigint NOT NULL,
    fired_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

CREATE TABLE public.cost_daily (
    day date NOT NULL,
    project text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    step text NOT NULL,
    calls bigint NOT NULL,
    failed bigint NOT NULL,
    cache_hits bigint NOT NULL,
    tokens bigint NOT NULL,
    cost_nano bigint NOT NULL,
    over_nano bigint NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.cost_daily_users (
    day date NOT NULL,
    project text NOT NULL,
    user_id text NOT NULL,
    calls bigint NOT NULL,
    failed bigint NOT NULL,
    cache_hits bigint NOT NULL,
    tokens bigint NOT NULL,
    cost_nano bigint NOT NULL,
    over_nano bigint NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.cost_price_factors (
    provider text NOT NULL,
    model text NOT NULL,
    factor double precision NOT NULL,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT cost_price_factors_factor_check CHECK ((factor > (1)::double precision))
);

CREATE TABLE public.cost_projects (
    project text NOT NULL,
    time_zone text NOT NULL
);

CREATE TABLE public.llm_common_migrations (
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.llm_response_cache (
    cache_key text NOT NULL,
    project text NOT NULL,
    user_id text,
    answer jsonb NOT NULL,
    stored_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT llm_response_cache_answer_is_an_object CHECK ((jsonb_typeof(answer) = 'object'::text))
);

CREATE TABLE public.llm_response_forgotten (
    project text NOT NULL,
    user_id text NOT NULL,
    forgotten_at timestamp with time zone NOT NULL
);

CREATE TABLE public.pipeline_steps (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    run_id uuid,
    key text NOT NULL,
    "position" integer DEFAULT 0 NOT NULL,
    step text NOT NULL,
    model text,
    status text NOT NULL,
    output jsonb,
    "timestamp" timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    code_version text DEFAULT 'host'::text NOT NULL,
    epoch integer DEFAULT 0 NOT NULL,
    reservation_id uuid
)
WITH (fillfactor='80');

CREATE TABLE public.rate_limit_buckets (
    namespace text NOT NULL,
    key text NOT NULL,
    requests_full_at bigint DEFAULT 0 NOT NULL,
    tokens_full_at bigint DEFAULT 0 NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.rate_limit_slots (
    namespace text NOT NULL,
    key text NOT NULL,
    permit uuid NOT NULL,
    held_until timestamp with time zone NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.rollout_flags (
    flag text NOT NULL,
    percentage smallint,
    enabled boolean DEFAULT true NOT NULL,
    epoch integer DEFAULT 1 NOT NULL,
    rolled_back_at timestamp with time zone,
    rollback_reason text,
    version bigint DEFAULT 1 NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT rollout_flags_percentage_is_one CHECK (((percentage >= 0) AND (percentage <= 100))),
    CONSTRAINT rollout_flags_rollback_has_a_reason CHECK (((rolled_back_at IS NULL) = (rollback_reason IS NULL)))
);

CREATE TABLE public.rollout_outcomes (
    id bigint NOT NULL,
    flag text NOT NULL,
    epoch integer NOT NULL,
    arm text NOT NULL,
    ok boolean NOT NULL,
    seconds double precision NOT NULL,
    cost_nano bigint,
    shadow boolean DEFAULT false NOT NULL,
    compared boolean DEFAULT false NOT NULL,
    difference text,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT rollout_outcomes_arm_is_known CHECK ((arm = ANY (ARRAY['new'::text, 'old'::text]))),
    CONSTRAINT rollout_outcomes_cost_is_positive CHECK ((cost_nano >= 0)),
    CONSTRAINT rollout_outcomes_seconds_are_positive CHECK (((seconds >= (0)::double precision) AND (seconds < 'Infinity'::double precision)))
);

ALTER TABLE public.rollout_outcomes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.rollout_outcomes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.search_documents (
    url text NOT NULL,
    host text NOT NULL,
    title text NOT NULL,
    content text NOT NULL,
    published date,
    stored_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    words tsvector GENERATED ALWAYS AS ((setweight(to_tsvector('english'::regconfig, title), 'A'::"char") || setweight(to_tsvector('english'::regconfig, "left"(content, 250000)), 'B'::"char"))) STORED NOT NULL
);

CREATE TABLE public.web_search_cache (
    cache_key text NOT NULL,
    query text,
    results jsonb,
    cached_at timestamp with time zone DEFAULT clock_timestamp(),
    hit_count bigint DEFAULT 0,
    query_folded text DEFAULT ''::text NOT NULL,
    provider text DEFAULT ''::text NOT NULL,
    fresh_until timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone NOT NULL,
    stale_until timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone NOT NULL
)
WITH (fillfactor='80');

CREATE TABLE public.web_search_leases (
    cache_key text NOT NULL,
    query_folded text NOT NULL,
    token uuid NOT NULL,
    held_until timestamp with time zone NOT NULL
);

CREATE TABLE public.web_search_stats (
    day date NOT NULL,
    provider text NOT NULL,
    shard smallint NOT NULL,
    memory_hits bigint DEFAULT 0 NOT NULL,
    db_hits bigint DEFAULT 0 NOT NULL,
    stale_hits bigint DEFAULT 0 NOT NULL,
    coalesced bigint DEFAULT 0 NOT NULL,
    misses bigint DEFAULT 0 NOT NULL,
    errors bigint DEFAULT 0 NOT NULL,
    upstream_requests bigint DEFAULT 0 NOT NULL,
    skipped_items bigint DEFAULT 0 NOT NULL,
    spent_nano bigint DEFAULT 0 NOT NULL,
    saved_nano bigint DEFAULT 0 NOT NULL
);

ALTER TABLE ONLY public.budget_windows
    ADD CONSTRAINT budget_windows_pkey PRIMARY KEY (project, scope, starts, "window");

ALTER TABLE ONLY public.conversation_summaries
    ADD CONSTRAINT conversation_summaries_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.conversations
    ADD CONSTRAINT conversations_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.cost_alerts
    ADD CONSTRAINT cost_alerts_pkey PRIMARY KEY (project, scope, starts, "window", threshold);

ALTER TABLE ONLY public.cost_daily
    ADD CONSTRAINT cost_daily_pkey PRIMARY KEY (day, project, provider, model, step);

ALTER TABLE ONLY public.cost_daily_users
    ADD CONSTRAINT cost_daily_users_pkey PRIMARY KEY (day, project, user_id);

ALTER TABLE ONLY public.cost_price_factors
    ADD CONSTRAINT cost_price_factors_pkey PRIMARY KEY (provider, model);

ALTER TABLE ONLY public.cost_projects
    ADD CONSTRAINT cost_projects_pkey PRIMARY KEY (project);

ALTER TABLE ONLY public.cost_reservations
    ADD CONSTRAINT cost_reservations_pkey PRIMARY KEY (id);

ALTER TABLE public.cost_tracking
    ADD CONSTRAINT cost_tracking_amount CHECK (((kind = 'host'::text) OR ((cost_usd >= (0)::numeric) AND (cost_usd <> 'NaN'::numeric)))) NOT VALID;

ALTER TABLE public.cost_tracking
    ADD CONSTRAINT cost_tracking_counts CHECK (((kind = 'host'::text) OR (LEAST(input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, tokens_used) >= 0))) NOT VALID;

ALTER TABLE public.cost_tracking
    ADD CONSTRAINT cost_tracking_gathers_cache_hits CHECK (((calls = 1) OR ((calls > 1) AND (kind = 'cache_hit'::text) AND (cost_usd = (0)::numeric)))) NOT VALID;

ALTER TABLE public.cost_tracking
    ADD CONSTRAINT cost_tracking_kind_is_a_word CHECK ((kind ~ '^[a-z][a-z0-9_]{0,39}$'::text)) NOT VALID;

ALTER TABLE public.cost_tracking
    ADD CONSTRAINT cost_tracking_payer CHECK (((kind = 'host'::text) OR ((project <> ''::text) AND (model <> ''::text)))) NOT VALID;

ALTER TABLE ONLY public.cost_tracking
    ADD CONSTRAINT cost_tracking_pkey PRIMARY KEY (id);

ALTER TABLE public.cost_tracking
    ADD CONSTRAINT cost_tracking_price_source CHECK ((price_source = ANY (ARRAY['provider'::text, 'override'::text, 'map'::text, 'estimate'::text]))) NOT VALID;

ALTER TABLE public.cost_tracking
    ADD CONSTRAINT cost_tracking_status CHECK ((status = ANY (ARRAY['ok'::text, 'failed'::text, 'cancelled'::text, 'cut'::text, 'expired'::text]))) NOT VALID;

ALTER TABLE public.cost_tracking
    ADD CONSTRAINT cost_tracking_tags_are_pairs CHECK ((jsonb_typeof(tags) = 'object'::text)) NOT VALID;

ALTER TABLE ONLY public.llm_common_migrations
    ADD CONSTRAINT llm_common_migrations_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.llm_response_cache
    ADD CONSTRAINT llm_response_cache_pkey PRIMARY KEY (cache_key);

ALTER TABLE ONLY public.llm_response_forgotten
    ADD CONSTRAINT llm_response_forgotten_pkey PRIMARY KEY (project, user_id);

ALTER TABLE public.pipeline_runs
    ADD CONSTRAINT pipeline_runs_dated CHECK (((input IS NULL) OR ((status = ANY (ARRAY['completed'::text, 'failed'::text, 'cancelled'::text])) = (completed_at IS NOT NULL)))) NOT VALID;

ALTER TABLE ONLY public.pipeline_runs
    ADD CONSTRAINT pipeline_runs_idempotency_key_key UNIQUE (idempotency_key);

ALTER TABLE public.pipeline_runs
    ADD CONSTRAINT pipeline_runs_known_status CHECK (((input IS NULL) OR (status = ANY (ARRAY['queued'::text, 'running'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))) NOT VALID;

ALTER TABLE public.pipeline_runs
    ADD CONSTRAINT pipeline_runs_leased CHECK (((input IS NULL) OR ((status = 'running'::text) = (lease_until IS NOT NULL)))) NOT VALID;

ALTER TABLE ONLY public.pipeline_runs
    ADD CONSTRAINT pipeline_runs_pkey PRIMARY KEY (id);

ALTER TABLE public.pipeline_runs
    ADD CONSTRAINT pipeline_runs_scored CHECK (((input IS NULL) OR ((quality_score >= (0)::numeric) AND (quality_score <= (1)::numeric)))) NOT VALID;

ALTER TABLE ONLY public.pipeline_steps
    ADD CONSTRAINT pipeline_steps_key UNIQUE (run_id, key);

ALTER TABLE public.pipeline_steps
    ADD CONSTRAINT pipeline_steps_of_a_run CHECK (((epoch = 0) OR ((run_id IS NOT NULL) AND ((status = 'completed'::text) = (output IS NOT NULL))))) NOT VALID;

ALTER TABLE ONLY public.pipeline_steps
    ADD CONSTRAINT pipeline_steps_pkey PRIMARY KEY (id);

ALTER TABLE public.pipeline_steps
    ADD CONSTRAINT pipeline_steps_status CHECK ((status = ANY (ARRAY['completed'::text, 'failed'::text]))) NOT VALID;

ALTER TABLE ONLY public.rate_limit_buckets
    ADD CONSTRAINT rate_limit_buckets_pkey PRIMARY KEY (namespace, key);

ALTER TABLE ONLY public.rate_limit_slots
    ADD CONSTRAINT rate_limit_slots_pkey PRIMARY KEY (namespace, key, permit);

ALTER TABLE ONLY public.rollout_flags
    ADD CONSTRAINT rollout_flags_pkey PRIMARY KEY (flag);

ALTER TABLE ONLY public.rollout_outcomes
    ADD CONSTRAINT rollout_outcomes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.search_documents
    ADD CONSTRAINT search_documents_pkey PRIMARY KEY (url);

ALTER TABLE public.web_search_cache
    ADD CONSTRAINT web_search_cache_answer CHECK (((provider = ''::text) OR (((query IS NOT NULL) AND (cached_at IS NOT NULL) AND (jsonb_typeof(results) = 'array'::text)) IS TRUE))) NOT VALID;

ALTER TABLE ONLY public.web_search_cache
    ADD CONSTRAINT web_search_cache_pkey PRIMARY KEY (cache_key);

ALTER TABLE ONLY public.web_search_leases
    ADD CONSTRAINT web_search_leases_pkey PRIMARY KEY (cache_key);

ALTER TABLE ONLY public.web_search_stats
    ADD CONSTRAINT web_search_stats_pkey PRIMARY KEY (day, provider, shard);

CREATE UNIQUE INDEX conversation_summaries_by_user ON public.conversation_summaries USING btree (user_id, covers_through);

CREATE INDEX conversations_by_time ON public.conversations USING brin ("timestamp");

CREATE UNIQUE INDEX conversations_by_user ON public.conversations USING btree (user_id, seq);

CREATE INDEX cost_daily_users_user ON public.cost_daily_users USING btree (project, user_id, day);

CREATE INDEX cost_reservations_expiry ON public.cost_reservations USING btree (project, expires_at);

CREATE UNIQUE INDEX cost_reservations_key ON public.cost_reservations USING btree (project, idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE UNIQUE INDEX cost_tracking_key ON public.cost_tracking USING btree (project, idempotency_key) WHERE (idempotency_key IS NOT NULL);

CREATE INDEX cost_tracking_run ON public.cost_tracking USING btree (run_id) WHERE (run_id IS NOT NULL);

CREATE INDEX cost_tracking_tags ON public.cost_tracking USING gin (tags jsonb_path_ops) WHERE (tags <> '{}'::jsonb);

CREATE INDEX cost_tracking_time ON public.cost_tracking USING brin (day, "timestamp") WITH (pages_per_range='32', autosummarize='on');

CREATE INDEX llm_response_cache_expiry ON public.llm_response_cache USING btree (expires_at);

CREATE INDEX llm_response_cache_owner ON public.llm_response_cache USING btree (project, user_id);

CREATE INDEX pipeline_runs_lease ON public.pipeline_runs USING btree (lease_until) WHERE (status = 'running'::text);

CREATE INDEX pipeline_runs_queue ON public.pipeline_runs USING btree (code_version, run_at, id) WHERE (status = 'queued'::text);

CREATE INDEX pipeline_runs_started ON public.pipeline_runs USING btree (started_at);

CREATE INDEX rollout_outcomes_by_arm ON public.rollout_outcomes USING btree (flag, arm, id);

CREATE INDEX search_documents_words ON public.search_documents USING gin (words);

CREATE TRIGGER llm_common_host_count AFTER INSERT ON public.cost_tracking FOR EACH ROW WHEN ((new.kind = 'host'::text)) EXECUTE FUNCTION public.cost_host_count();

CREATE TRIGGER llm_common_host_row BEFORE INSERT ON public.conversations FOR EACH ROW WHEN (((new.id IS NULL) OR (new.user_id IS NULL) OR (new.role IS NULL) OR (new.content IS NULL) OR (new."timestamp" IS NULL))) EXECUTE FUNCTION public.conversation_host_row();

CREATE TRIGGER llm_common_host_row BEFORE INSERT ON public.cost_tracking FOR EACH ROW WHEN ((new.day IS NULL)) EXECUTE FUNCTION public.cost_host_row();

CREATE TRIGGER llm_common_host_row BEFORE INSERT ON public.pipeline_runs FOR EACH ROW WHEN ((new.input IS NULL)) EXECUTE FUNCTION public.pipeline_host_run();

CREATE TRIGGER llm_common_host_row BEFORE INSERT ON public.pipeline_steps FOR EACH ROW WHEN ((new.key IS NULL)) EXECUTE FUNCTION public.pipeline_host_step();

ALTER TABLE ONLY public.pipeline_steps
    ADD CONSTRAINT pipeline_steps_run_id_fkey FOREIGN KEY (run_id) REFERENCES public.pipeline_runs(id) ON DELETE CASCADE;

ALTER TABLE public.budget_windows ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.conversation_summaries ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.conversations ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.cost_alerts ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.cost_daily ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.cost_daily_users ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.cost_price_factors ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.cost_projects ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.cost_reservations ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.cost_tracking ENABLE ROW LEVEL SECURITY;

CREATE POLICY llm_common_app ON public.budget_windows TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.conversation_summaries TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.conversations TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.cost_alerts TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.cost_daily TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.cost_daily_users TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.cost_price_factors TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.cost_projects TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.cost_reservations TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.cost_tracking TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.llm_common_migrations TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.llm_response_cache TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.llm_response_forgotten TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.pipeline_runs TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.pipeline_steps TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.rate_limit_buckets TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.rate_limit_slots TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.rollout_flags TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.rollout_outcomes TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.search_documents TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.web_search_cache TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.web_search_leases TO llm_common_app USING (true) WITH CHECK (true);

CREATE POLICY llm_common_app ON public.web_search_stats TO llm_common_app USING (true) WITH CHECK (true);

ALTER TABLE public.llm_common_migrations ENABLE ROW LEVEL SECURITY;

CREATE POLICY llm_common_read ON public.budget_windows FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.conversation_summaries FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.conversations FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.cost_alerts FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.cost_daily FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.cost_daily_users FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.cost_price_factors FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.cost_projects FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.cost_reservations FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.cost_tracking FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.llm_common_migrations FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.llm_response_cache FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.llm_response_forgotten FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.pipeline_runs FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.pipeline_steps FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.rate_limit_buckets FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.rate_limit_slots FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.rollout_flags FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.rollout_outcomes FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.search_documents FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.web_search_cache FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.web_search_leases FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_read ON public.web_search_stats FOR SELECT TO llm_common_read USING (true);

CREATE POLICY llm_common_service_role ON public.budget_windows TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.conversation_summaries TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.conversations TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.cost_alerts TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.cost_daily TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.cost_daily_users TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.cost_price_factors TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.cost_projects TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.cost_reservations TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.cost_tracking TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.llm_common_migrations TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.llm_response_cache TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.llm_response_forgotten TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.pipeline_runs TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.pipeline_steps TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.rate_limit_buckets TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.rate_limit_slots TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.rollout_flags TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.rollout_outcomes TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.search_documents TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.web_search_cache TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.web_search_leases TO service_role USING (true) WITH CHECK (true);

CREATE POLICY llm_common_service_role ON public.web_search_stats TO service_role USING (true) WITH CHECK (true);

ALTER TABLE public.llm_response_cache ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.llm_response_forgotten ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.pipeline_runs ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.pipeline_steps ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.rate_limit_buckets ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.rate_limit_slots ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.rollout_flags ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.rollout_outcomes ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.search_documents ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.web_search_cache ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.web_search_leases ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.web_search_stats ENABLE ROW LEVEL SECURITY;

REVOKE ALL ON FUNCTION public.adopt_cost(call jsonb, limits jsonb, hold_seconds double precision, reserved_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION public.adopt_cost(call jsonb, limits jsonb, hold_seconds double precision, reserved_at timestamp with time zone) TO llm_common_app;
GRANT ALL ON FUNCTION public.adopt_cost(call jsonb, limits jsonb, hold_seconds double precision, reserved_at timestamp with time zone) TO service_role;

REVOKE ALL ON FUNCTION public.budget_alerts(of_project text, on_day date, limits jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.budget_alerts(of_project text, on_day date, limits jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.budget_alerts(of_project text, on_day date, limits jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.budget_ends(of_window text, starts date) FROM PUBLIC;
GRANT ALL ON FUNCTION public.budget_ends(of_window text, starts date) TO llm_common_app;
GRANT ALL ON FUNCTION public.budget_ends(of_window text, starts date) TO llm_common_read;
GRANT ALL ON FUNCTION public.budget_ends(of_window text, starts date) TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cost_reservations TO llm_common_app;
GRANT SELECT ON TABLE public.cost_reservations TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cost_reservations TO service_role;

REVOKE ALL ON FUNCTION public.budget_fit(held public.cost_reservations, more_nano bigint, OUT spent_nano bigint, OUT limits_changed boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION public.budget_fit(held public.cost_reservations, more_nano bigint, OUT spent_nano bigint, OUT limits_changed boolean) TO llm_common_app;
GRANT ALL ON FUNCTION public.budget_fit(held public.cost_reservations, more_nano bigint, OUT spent_nano bigint, OUT limits_changed boolean) TO service_role;

REVOKE ALL ON FUNCTION public.budget_move(of_project text, on_day date, of_scopes text[], reserved bigint, spent bigint, over bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION public.budget_move(of_project text, on_day date, of_scopes text[], reserved bigint, spent bigint, over bigint) TO llm_common_app;
GRANT ALL ON FUNCTION public.budget_move(of_project text, on_day date, of_scopes text[], reserved bigint, spent bigint, over bigint) TO service_role;

REVOKE ALL ON FUNCTION public.budget_open(of_project text, on_day date, limits jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.budget_open(of_project text, on_day date, limits jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.budget_open(of_project text, on_day date, limits jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.budget_resets_at(of_project text, of_window text, starts date) FROM PUBLIC;
GRANT ALL ON FUNCTION public.budget_resets_at(of_project text, of_window text, starts date) TO llm_common_app;
GRANT ALL ON FUNCTION public.budget_resets_at(of_project text, of_window text, starts date) TO llm_common_read;
GRANT ALL ON FUNCTION public.budget_resets_at(of_project text, of_window text, starts date) TO service_role;

REVOKE ALL ON FUNCTION public.budget_starts(of_window text, on_day date) FROM PUBLIC;
GRANT ALL ON FUNCTION public.budget_starts(of_window text, on_day date) TO llm_common_app;
GRANT ALL ON FUNCTION public.budget_starts(of_window text, on_day date) TO llm_common_read;
GRANT ALL ON FUNCTION public.budget_starts(of_window text, on_day date) TO service_role;

REVOKE ALL ON FUNCTION public.budget_status(project text, limits jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.budget_status(project text, limits jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.budget_status(project text, limits jsonb) TO llm_common_read;
GRANT ALL ON FUNCTION public.budget_status(project text, limits jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.budget_truth(of_project text, of_scope text, of_window text, of_starts date, OUT spent_nano bigint, OUT over_nano bigint, OUT reserved_nano bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION public.budget_truth(of_project text, of_scope text, of_window text, of_starts date, OUT spent_nano bigint, OUT over_nano bigint, OUT reserved_nano bigint) TO llm_common_app;
GRANT ALL ON FUNCTION public.budget_truth(of_project text, of_scope text, of_window text, of_starts date, OUT spent_nano bigint, OUT over_nano bigint, OUT reserved_nano bigint) TO llm_common_read;
GRANT ALL ON FUNCTION public.budget_truth(of_project text, of_scope text, of_window text, of_starts date, OUT spent_nano bigint, OUT over_nano bigint, OUT reserved_nano bigint) TO service_role;

REVOKE ALL ON FUNCTION public.check_cost_ledger(project text, since date) FROM PUBLIC;
GRANT ALL ON FUNCTION public.check_cost_ledger(project text, since date) TO llm_common_app;
GRANT ALL ON FUNCTION public.check_cost_ledger(project text, since date) TO llm_common_read;
GRANT ALL ON FUNCTION public.check_cost_ledger(project text, since date) TO service_role;

REVOKE ALL ON FUNCTION public.claim_runs(worker text, code_version text, max_runs integer, lease_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.claim_runs(worker text, code_version text, max_runs integer, lease_seconds double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.claim_runs(worker text, code_version text, max_runs integer, lease_seconds double precision) TO service_role;

REVOKE ALL ON FUNCTION public.cleanup_conversations(days integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cleanup_conversations(days integer) TO llm_common_app;
GRANT ALL ON FUNCTION public.cleanup_conversations(days integer) TO service_role;

REVOKE ALL ON FUNCTION public.cleanup_response_cache(max_rows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cleanup_response_cache(max_rows integer) TO llm_common_app;
GRANT ALL ON FUNCTION public.cleanup_response_cache(max_rows integer) TO service_role;

REVOKE ALL ON FUNCTION public.cleanup_search_cache() FROM PUBLIC;
GRANT ALL ON FUNCTION public.cleanup_search_cache() TO llm_common_app;
GRANT ALL ON FUNCTION public.cleanup_search_cache() TO service_role;

REVOKE ALL ON FUNCTION public.compare_models(start_date date, end_date date, step text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.compare_models(start_date date, end_date date, step text) TO llm_common_app;
GRANT ALL ON FUNCTION public.compare_models(start_date date, end_date date, step text) TO llm_common_read;
GRANT ALL ON FUNCTION public.compare_models(start_date date, end_date date, step text) TO service_role;

REVOKE ALL ON FUNCTION public.compare_pipelines(start_date date, end_date date, spec text, shared_only boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION public.compare_pipelines(start_date date, end_date date, spec text, shared_only boolean) TO llm_common_app;
GRANT ALL ON FUNCTION public.compare_pipelines(start_date date, end_date date, spec text, shared_only boolean) TO llm_common_read;
GRANT ALL ON FUNCTION public.compare_pipelines(start_date date, end_date date, spec text, shared_only boolean) TO service_role;

REVOKE ALL ON FUNCTION public.compare_runs(run_ids jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.compare_runs(run_ids jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.compare_runs(run_ids jsonb) TO llm_common_read;
GRANT ALL ON FUNCTION public.compare_runs(run_ids jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.complete_run(lease jsonb, result jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.complete_run(lease jsonb, result jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.complete_run(lease jsonb, result jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.conversation_backlog(owner text, keep integer, max_messages integer, max_characters integer, clip integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.conversation_backlog(owner text, keep integer, max_messages integer, max_characters integer, clip integer) TO llm_common_app;
GRANT ALL ON FUNCTION public.conversation_backlog(owner text, keep integer, max_messages integer, max_characters integer, clip integer) TO llm_common_read;
GRANT ALL ON FUNCTION public.conversation_backlog(owner text, keep integer, max_messages integer, max_characters integer, clip integer) TO service_role;

REVOKE ALL ON FUNCTION public.conversation_context(owner text, on_page text, newest integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.conversation_context(owner text, on_page text, newest integer) TO llm_common_app;
GRANT ALL ON FUNCTION public.conversation_context(owner text, on_page text, newest integer) TO llm_common_read;
GRANT ALL ON FUNCTION public.conversation_context(owner text, on_page text, newest integer) TO service_role;

REVOKE ALL ON FUNCTION public.conversation_forget(owner text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.conversation_forget(owner text) TO llm_common_app;
GRANT ALL ON FUNCTION public.conversation_forget(owner text) TO service_role;

REVOKE ALL ON FUNCTION public.conversation_forget_message(owner text, message_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION public.conversation_forget_message(owner text, message_id bigint) TO llm_common_app;
GRANT ALL ON FUNCTION public.conversation_forget_message(owner text, message_id bigint) TO service_role;

REVOKE ALL ON FUNCTION public.conversation_history(owner text, newest integer, before_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION public.conversation_history(owner text, newest integer, before_id bigint) TO llm_common_app;
GRANT ALL ON FUNCTION public.conversation_history(owner text, newest integer, before_id bigint) TO llm_common_read;
GRANT ALL ON FUNCTION public.conversation_history(owner text, newest integer, before_id bigint) TO service_role;

REVOKE ALL ON FUNCTION public.conversation_host_row() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.conversation_lock(owner text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.conversation_lock(owner text) TO llm_common_app;
GRANT ALL ON FUNCTION public.conversation_lock(owner text) TO service_role;

REVOKE ALL ON FUNCTION public.conversation_recall(owner text, query text, at_most integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.conversation_recall(owner text, query text, at_most integer) TO llm_common_app;
GRANT ALL ON FUNCTION public.conversation_recall(owner text, query text, at_most integer) TO llm_common_read;
GRANT ALL ON FUNCTION public.conversation_recall(owner text, query text, at_most integer) TO service_role;

REVOKE ALL ON FUNCTION public.conversation_save(owner text, said_by text, said text, on_page text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.conversation_save(owner text, said_by text, said text, on_page text) TO llm_common_app;
GRANT ALL ON FUNCTION public.conversation_save(owner text, said_by text, said text, on_page text) TO service_role;

REVOKE ALL ON FUNCTION public.conversation_save_summary(owner text, previous_id bigint, through_id bigint, message_count integer, summary_text text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.conversation_save_summary(owner text, previous_id bigint, through_id bigint, message_count integer, summary_text text) TO llm_common_app;
GRANT ALL ON FUNCTION public.conversation_save_summary(owner text, previous_id bigint, through_id bigint, message_count integer, summary_text text) TO service_role;

REVOKE ALL ON FUNCTION public.cost_breakdown(start_date date, end_date date, group_by text, project text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_breakdown(start_date date, end_date date, group_by text, project text) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_breakdown(start_date date, end_date date, group_by text, project text) TO llm_common_read;
GRANT ALL ON FUNCTION public.cost_breakdown(start_date date, end_date date, group_by text, project text) TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cost_tracking TO llm_common_app;
GRANT SELECT ON TABLE public.cost_tracking TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cost_tracking TO service_role;

REVOKE ALL ON FUNCTION public.cost_count(paid public.cost_tracking, sign integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_count(paid public.cost_tracking, sign integer) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_count(paid public.cost_tracking, sign integer) TO service_role;

REVOKE ALL ON FUNCTION public.cost_day(of_project text, at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_day(of_project text, at timestamp with time zone) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_day(of_project text, at timestamp with time zone) TO llm_common_read;
GRANT ALL ON FUNCTION public.cost_day(of_project text, at timestamp with time zone) TO service_role;

REVOKE ALL ON FUNCTION public.cost_expire(held public.cost_reservations) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_expire(held public.cost_reservations) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_expire(held public.cost_reservations) TO service_role;

REVOKE ALL ON FUNCTION public.cost_forecast(project text, as_of date) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_forecast(project text, as_of date) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_forecast(project text, as_of date) TO llm_common_read;
GRANT ALL ON FUNCTION public.cost_forecast(project text, as_of date) TO service_role;

REVOKE ALL ON FUNCTION public.cost_gate(of_project text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_gate(of_project text) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_gate(of_project text) TO service_role;

REVOKE ALL ON FUNCTION public.cost_grow(before public.cost_reservations, more_nano bigint, of_extension uuid, of_model text, of_provider text, limits jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_grow(before public.cost_reservations, more_nano bigint, of_extension uuid, of_model text, of_provider text, limits jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_grow(before public.cost_reservations, more_nano bigint, of_extension uuid, of_model text, of_provider text, limits jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.cost_host_count() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.cost_host_row() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.cost_key_used(project text, key text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_key_used(project text, key text) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_key_used(project text, key text) TO llm_common_read;
GRANT ALL ON FUNCTION public.cost_key_used(project text, key text) TO service_role;

REVOKE ALL ON FUNCTION public.cost_nano(cost_usd numeric) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_nano(cost_usd numeric) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_nano(cost_usd numeric) TO llm_common_read;
GRANT ALL ON FUNCTION public.cost_nano(cost_usd numeric) TO service_role;

REVOKE ALL ON FUNCTION public.cost_note_price(paid public.cost_tracking, listed_nano bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_note_price(paid public.cost_tracking, listed_nano bigint) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_note_price(paid public.cost_tracking, listed_nano bigint) TO service_role;

REVOKE ALL ON FUNCTION public.cost_of_reservation(held public.cost_reservations) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_of_reservation(held public.cost_reservations) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_of_reservation(held public.cost_reservations) TO llm_common_read;
GRANT ALL ON FUNCTION public.cost_of_reservation(held public.cost_reservations) TO service_role;

REVOKE ALL ON FUNCTION public.cost_over(paid public.cost_tracking) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_over(paid public.cost_tracking) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_over(paid public.cost_tracking) TO llm_common_read;
GRANT ALL ON FUNCTION public.cost_over(paid public.cost_tracking) TO service_role;

REVOKE ALL ON FUNCTION public.cost_paid(base public.cost_tracking, outcome jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_paid(base public.cost_tracking, outcome jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_paid(base public.cost_tracking, outcome jsonb) TO llm_common_read;
GRANT ALL ON FUNCTION public.cost_paid(base public.cost_tracking, outcome jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.cost_reservation_check(held public.cost_reservations, hold_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_reservation_check(held public.cost_reservations, hold_seconds double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_reservation_check(held public.cost_reservations, hold_seconds double precision) TO llm_common_read;
GRANT ALL ON FUNCTION public.cost_reservation_check(held public.cost_reservations, hold_seconds double precision) TO service_role;

REVOKE ALL ON FUNCTION public.cost_rollup(paid public.cost_tracking, sign integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_rollup(paid public.cost_tracking, sign integer) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_rollup(paid public.cost_tracking, sign integer) TO service_role;

REVOKE ALL ON FUNCTION public.cost_scopes(user_id text, model text, run_id text, tags jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_scopes(user_id text, model text, run_id text, tags jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_scopes(user_id text, model text, run_id text, tags jsonb) TO llm_common_read;
GRANT ALL ON FUNCTION public.cost_scopes(user_id text, model text, run_id text, tags jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.cost_spent_today(of_project text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_spent_today(of_project text) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_spent_today(of_project text) TO llm_common_read;
GRANT ALL ON FUNCTION public.cost_spent_today(of_project text) TO service_role;

REVOKE ALL ON FUNCTION public.cost_time_zone(of_project text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_time_zone(of_project text) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_time_zone(of_project text) TO llm_common_read;
GRANT ALL ON FUNCTION public.cost_time_zone(of_project text) TO service_role;

REVOKE ALL ON FUNCTION public.cost_total(project text, from_day date, to_day date) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_total(project text, from_day date, to_day date) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_total(project text, from_day date, to_day date) TO llm_common_read;
GRANT ALL ON FUNCTION public.cost_total(project text, from_day date, to_day date) TO service_role;

REVOKE ALL ON FUNCTION public.cost_true_bound(of_provider text, of_model text, bound_nano bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION public.cost_true_bound(of_provider text, of_model text, bound_nano bigint) TO llm_common_app;
GRANT ALL ON FUNCTION public.cost_true_bound(of_provider text, of_model text, bound_nano bigint) TO llm_common_read;
GRANT ALL ON FUNCTION public.cost_true_bound(of_provider text, of_model text, bound_nano bigint) TO service_role;

REVOKE ALL ON FUNCTION public.enqueue_runs(runs jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.enqueue_runs(runs jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.enqueue_runs(runs jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.expire_reservations(max_rows integer, project text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.expire_reservations(max_rows integer, project text) TO llm_common_app;
GRANT ALL ON FUNCTION public.expire_reservations(max_rows integer, project text) TO service_role;

REVOKE ALL ON FUNCTION public.extend_cost(reservation_id uuid, more_nano bigint, extension_id uuid, model text, provider text, limits jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.extend_cost(reservation_id uuid, more_nano bigint, extension_id uuid, model text, provider text, limits jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.extend_cost(reservation_id uuid, more_nano bigint, extension_id uuid, model text, provider text, limits jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.finish_step(lease jsonb, step jsonb, reservation_id uuid, outcome jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.finish_step(lease jsonb, step jsonb, reservation_id uuid, outcome jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.finish_step(lease jsonb, step jsonb, reservation_id uuid, outcome jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.get_cache_stats() FROM PUBLIC;
GRANT ALL ON FUNCTION public.get_cache_stats() TO llm_common_app;
GRANT ALL ON FUNCTION public.get_cache_stats() TO llm_common_read;
GRANT ALL ON FUNCTION public.get_cache_stats() TO service_role;

REVOKE ALL ON FUNCTION public.get_cost_breakdown(start_date date, end_date date, group_by text, project text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.get_cost_breakdown(start_date date, end_date date, group_by text, project text) TO llm_common_app;
GRANT ALL ON FUNCTION public.get_cost_breakdown(start_date date, end_date date, group_by text, project text) TO llm_common_read;
GRANT ALL ON FUNCTION public.get_cost_breakdown(start_date date, end_date date, group_by text, project text) TO service_role;

REVOKE ALL ON FUNCTION public.get_daily_cost(target_date date, project text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.get_daily_cost(target_date date, project text) TO llm_common_app;
GRANT ALL ON FUNCTION public.get_daily_cost(target_date date, project text) TO llm_common_read;
GRANT ALL ON FUNCTION public.get_daily_cost(target_date date, project text) TO service_role;

REVOKE ALL ON FUNCTION public.get_monthly_cost(target_year integer, target_month integer, project text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.get_monthly_cost(target_year integer, target_month integer, project text) TO llm_common_app;
GRANT ALL ON FUNCTION public.get_monthly_cost(target_year integer, target_month integer, project text) TO llm_common_read;
GRANT ALL ON FUNCTION public.get_monthly_cost(target_year integer, target_month integer, project text) TO service_role;

REVOKE ALL ON FUNCTION public.get_run(run_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION public.get_run(run_id uuid) TO llm_common_app;
GRANT ALL ON FUNCTION public.get_run(run_id uuid) TO llm_common_read;
GRANT ALL ON FUNCTION public.get_run(run_id uuid) TO service_role;

REVOKE ALL ON FUNCTION public.list_runs(wanted jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.list_runs(wanted jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.list_runs(wanted jsonb) TO llm_common_read;
GRANT ALL ON FUNCTION public.list_runs(wanted jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_close_table(target regclass) FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_close_table(target regclass) TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_close_table(target regclass) TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_constrain(target regclass, constraint_name text, condition text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_constrain(target regclass, constraint_name text, condition text) TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_constrain(target regclass, constraint_name text, condition text) TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_convert(target regclass, checked text[], changes text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_convert(target regclass, checked text[], changes text) TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_convert(target regclass, checked text[], changes text) TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_flush() FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_flush() TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_flush() TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_functions_in_the_way() FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_functions_in_the_way() TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_functions_in_the_way() TO llm_common_read;
GRANT ALL ON FUNCTION public.llm_common_functions_in_the_way() TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_let_in() FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_let_in() TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_let_in() TO llm_common_read;
GRANT ALL ON FUNCTION public.llm_common_let_in() TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_look_first() FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_look_first() TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_look_first() TO llm_common_read;
GRANT ALL ON FUNCTION public.llm_common_look_first() TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_make_room(VARIADIC names text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_make_room(VARIADIC names text[]) TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_make_room(VARIADIC names text[]) TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_reachers(target regclass, chosen boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_reachers(target regclass, chosen boolean) TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_reachers(target regclass, chosen boolean) TO llm_common_read;
GRANT ALL ON FUNCTION public.llm_common_reachers(target regclass, chosen boolean) TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_record(file text, sha256 text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_record(file text, sha256 text) TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_record(file text, sha256 text) TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_role(role oid) FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_role(role oid) TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_role(role oid) TO llm_common_read;
GRANT ALL ON FUNCTION public.llm_common_role(role oid) TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_secure_functions(names text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_secure_functions(names text[]) TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_secure_functions(names text[]) TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_secure_table(target regclass, hidden text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_secure_table(target regclass, hidden text[]) TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_secure_table(target regclass, hidden text[]) TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_shut_out() FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_shut_out() TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_shut_out() TO llm_common_read;
GRANT ALL ON FUNCTION public.llm_common_shut_out() TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_tables() FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_tables() TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_tables() TO llm_common_read;
GRANT ALL ON FUNCTION public.llm_common_tables() TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_take_policies(target regclass) FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_take_policies(target regclass) TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_take_policies(target regclass) TO service_role;

REVOKE ALL ON FUNCTION public.llm_common_take_views(target regclass) FROM PUBLIC;
GRANT ALL ON FUNCTION public.llm_common_take_views(target regclass) TO llm_common_app;
GRANT ALL ON FUNCTION public.llm_common_take_views(target regclass) TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.pipeline_runs TO llm_common_app;
GRANT SELECT ON TABLE public.pipeline_runs TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.pipeline_runs TO service_role;

REVOKE ALL ON FUNCTION public.pipeline_claim(run public.pipeline_runs, for_worker text, for_code text, lease_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.pipeline_claim(run public.pipeline_runs, for_worker text, for_code text, lease_seconds double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.pipeline_claim(run public.pipeline_runs, for_worker text, for_code text, lease_seconds double precision) TO service_role;

REVOKE ALL ON FUNCTION public.pipeline_comparison(run_ids uuid[]) FROM PUBLIC;
GRANT ALL ON FUNCTION public.pipeline_comparison(run_ids uuid[]) TO llm_common_app;
GRANT ALL ON FUNCTION public.pipeline_comparison(run_ids uuid[]) TO llm_common_read;
GRANT ALL ON FUNCTION public.pipeline_comparison(run_ids uuid[]) TO service_role;

REVOKE ALL ON FUNCTION public.pipeline_cost_nano(run uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION public.pipeline_cost_nano(run uuid) TO llm_common_app;
GRANT ALL ON FUNCTION public.pipeline_cost_nano(run uuid) TO llm_common_read;
GRANT ALL ON FUNCTION public.pipeline_cost_nano(run uuid) TO service_role;

REVOKE ALL ON FUNCTION public.pipeline_exhaust(run public.pipeline_runs) FROM PUBLIC;
GRANT ALL ON FUNCTION public.pipeline_exhaust(run public.pipeline_runs) TO llm_common_app;
GRANT ALL ON FUNCTION public.pipeline_exhaust(run public.pipeline_runs) TO service_role;

REVOKE ALL ON FUNCTION public.pipeline_handover(claimed public.pipeline_runs) FROM PUBLIC;
GRANT ALL ON FUNCTION public.pipeline_handover(claimed public.pipeline_runs) TO llm_common_app;
GRANT ALL ON FUNCTION public.pipeline_handover(claimed public.pipeline_runs) TO llm_common_read;
GRANT ALL ON FUNCTION public.pipeline_handover(claimed public.pipeline_runs) TO service_role;

REVOKE ALL ON FUNCTION public.pipeline_hold(lease jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.pipeline_hold(lease jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.pipeline_hold(lease jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.pipeline_host_run() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.pipeline_host_step() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.pipeline_key_refusal(known public.pipeline_runs, wanted public.pipeline_runs) FROM PUBLIC;
GRANT ALL ON FUNCTION public.pipeline_key_refusal(known public.pipeline_runs, wanted public.pipeline_runs) TO llm_common_app;
GRANT ALL ON FUNCTION public.pipeline_key_refusal(known public.pipeline_runs, wanted public.pipeline_runs) TO llm_common_read;
GRANT ALL ON FUNCTION public.pipeline_key_refusal(known public.pipeline_runs, wanted public.pipeline_runs) TO service_role;

REVOKE ALL ON FUNCTION public.pipeline_lease_end(seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.pipeline_lease_end(seconds double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.pipeline_lease_end(seconds double precision) TO service_role;

REVOKE ALL ON FUNCTION public.pipeline_locked(run uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION public.pipeline_locked(run uuid) TO llm_common_app;
GRANT ALL ON FUNCTION public.pipeline_locked(run uuid) TO service_role;

REVOKE ALL ON FUNCTION public.pipeline_put_back(lease jsonb, used integer, wait_seconds double precision, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.pipeline_put_back(lease jsonb, used integer, wait_seconds double precision, reason text) TO llm_common_app;
GRANT ALL ON FUNCTION public.pipeline_put_back(lease jsonb, used integer, wait_seconds double precision, reason text) TO service_role;

REVOKE ALL ON FUNCTION public.pipeline_run_json(run public.pipeline_runs) FROM PUBLIC;
GRANT ALL ON FUNCTION public.pipeline_run_json(run public.pipeline_runs) TO llm_common_app;
GRANT ALL ON FUNCTION public.pipeline_run_json(run public.pipeline_runs) TO llm_common_read;
GRANT ALL ON FUNCTION public.pipeline_run_json(run public.pipeline_runs) TO service_role;

REVOKE ALL ON FUNCTION public.pipeline_store(lease jsonb, step jsonb, reservation uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION public.pipeline_store(lease jsonb, step jsonb, reservation uuid) TO llm_common_app;
GRANT ALL ON FUNCTION public.pipeline_store(lease jsonb, step jsonb, reservation uuid) TO service_role;

REVOKE ALL ON FUNCTION public.pipeline_unknown(run uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION public.pipeline_unknown(run uuid) TO llm_common_app;
GRANT ALL ON FUNCTION public.pipeline_unknown(run uuid) TO llm_common_read;
GRANT ALL ON FUNCTION public.pipeline_unknown(run uuid) TO service_role;

REVOKE ALL ON FUNCTION public.queue_status() FROM PUBLIC;
GRANT ALL ON FUNCTION public.queue_status() TO llm_common_app;
GRANT ALL ON FUNCTION public.queue_status() TO llm_common_read;
GRANT ALL ON FUNCTION public.queue_status() TO service_role;

REVOKE ALL ON FUNCTION public.rate_limit_end(of_namespace text, with_permit uuid, corrections jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.rate_limit_end(of_namespace text, with_permit uuid, corrections jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.rate_limit_end(of_namespace text, with_permit uuid, corrections jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.rate_limit_gates(of_namespace text, keys text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION public.rate_limit_gates(of_namespace text, keys text[]) TO llm_common_app;
GRANT ALL ON FUNCTION public.rate_limit_gates(of_namespace text, keys text[]) TO service_role;

REVOKE ALL ON FUNCTION public.rate_limit_take(of_namespace text, with_permit uuid, demands jsonb, lease_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.rate_limit_take(of_namespace text, with_permit uuid, demands jsonb, lease_seconds double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.rate_limit_take(of_namespace text, with_permit uuid, demands jsonb, lease_seconds double precision) TO service_role;

REVOKE ALL ON FUNCTION public.record_cost(cost jsonb, limits jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.record_cost(cost jsonb, limits jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.record_cost(cost jsonb, limits jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.release_cost(reservation_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION public.release_cost(reservation_id uuid) TO llm_common_app;
GRANT ALL ON FUNCTION public.release_cost(reservation_id uuid) TO service_role;

REVOKE ALL ON FUNCTION public.release_run(lease jsonb, wait_seconds double precision, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.release_run(lease jsonb, wait_seconds double precision, reason text) TO llm_common_app;
GRANT ALL ON FUNCTION public.release_run(lease jsonb, wait_seconds double precision, reason text) TO service_role;

REVOKE ALL ON FUNCTION public.renew_run_lease(lease jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.renew_run_lease(lease jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.renew_run_lease(lease jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.renew_run_leases(leases jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.renew_run_leases(leases jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.renew_run_leases(leases jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.request_cancel(run_id uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION public.request_cancel(run_id uuid) TO llm_common_app;
GRANT ALL ON FUNCTION public.request_cancel(run_id uuid) TO service_role;

REVOKE ALL ON FUNCTION public.reserve_cost(call jsonb, limits jsonb, hold_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.reserve_cost(call jsonb, limits jsonb, hold_seconds double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.reserve_cost(call jsonb, limits jsonb, hold_seconds double precision) TO service_role;

REVOKE ALL ON FUNCTION public.response_cache_forget(project text, user_id text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.response_cache_forget(project text, user_id text) TO llm_common_app;
GRANT ALL ON FUNCTION public.response_cache_forget(project text, user_id text) TO service_role;

REVOKE ALL ON FUNCTION public.response_cache_get(key text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.response_cache_get(key text) TO llm_common_app;
GRANT ALL ON FUNCTION public.response_cache_get(key text) TO llm_common_read;
GRANT ALL ON FUNCTION public.response_cache_get(key text) TO service_role;

REVOKE ALL ON FUNCTION public.response_cache_put(key text, entry jsonb, ttl_seconds double precision, ticket text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.response_cache_put(key text, entry jsonb, ttl_seconds double precision, ticket text) TO llm_common_app;
GRANT ALL ON FUNCTION public.response_cache_put(key text, entry jsonb, ttl_seconds double precision, ticket text) TO service_role;

REVOKE ALL ON FUNCTION public.resume_run(run_id uuid, worker text, code_version text, lease_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.resume_run(run_id uuid, worker text, code_version text, lease_seconds double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.resume_run(run_id uuid, worker text, code_version text, lease_seconds double precision) TO service_role;

REVOKE ALL ON FUNCTION public.retry_run(lease jsonb, wait_seconds double precision, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.retry_run(lease jsonb, wait_seconds double precision, reason text) TO llm_common_app;
GRANT ALL ON FUNCTION public.retry_run(lease jsonb, wait_seconds double precision, reason text) TO service_role;

REVOKE ALL ON FUNCTION public.rollout_arm_stats(flag_name text, arm_name text, in_epoch integer, newest integer, max_age_seconds double precision, slow_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.rollout_arm_stats(flag_name text, arm_name text, in_epoch integer, newest integer, max_age_seconds double precision, slow_seconds double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.rollout_arm_stats(flag_name text, arm_name text, in_epoch integer, newest integer, max_age_seconds double precision, slow_seconds double precision) TO llm_common_read;
GRANT ALL ON FUNCTION public.rollout_arm_stats(flag_name text, arm_name text, in_epoch integer, newest integer, max_age_seconds double precision, slow_seconds double precision) TO service_role;

REVOKE ALL ON FUNCTION public.rollout_get(flag_name text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.rollout_get(flag_name text) TO llm_common_app;
GRANT ALL ON FUNCTION public.rollout_get(flag_name text) TO llm_common_read;
GRANT ALL ON FUNCTION public.rollout_get(flag_name text) TO service_role;

REVOKE ALL ON FUNCTION public.rollout_latch(flag_name text, in_epoch integer, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.rollout_latch(flag_name text, in_epoch integer, reason text) TO llm_common_app;
GRANT ALL ON FUNCTION public.rollout_latch(flag_name text, in_epoch integer, reason text) TO service_role;

REVOKE ALL ON FUNCTION public.rollout_prune(flag_name text, arm_name text, keep integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.rollout_prune(flag_name text, arm_name text, keep integer) TO llm_common_app;
GRANT ALL ON FUNCTION public.rollout_prune(flag_name text, arm_name text, keep integer) TO service_role;

REVOKE ALL ON FUNCTION public.rollout_record(flag_name text, outcomes jsonb, newest integer, max_age_seconds double precision, slow_ratio double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.rollout_record(flag_name text, outcomes jsonb, newest integer, max_age_seconds double precision, slow_ratio double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.rollout_record(flag_name text, outcomes jsonb, newest integer, max_age_seconds double precision, slow_ratio double precision) TO service_role;

REVOKE ALL ON FUNCTION public.rollout_report(flag_name text, newest integer, max_age_seconds double precision, slow_ratio double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.rollout_report(flag_name text, newest integer, max_age_seconds double precision, slow_ratio double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.rollout_report(flag_name text, newest integer, max_age_seconds double precision, slow_ratio double precision) TO llm_common_read;
GRANT ALL ON FUNCTION public.rollout_report(flag_name text, newest integer, max_age_seconds double precision, slow_ratio double precision) TO service_role;

REVOKE ALL ON FUNCTION public.rollout_reset(flag_name text, new_percentage integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.rollout_reset(flag_name text, new_percentage integer) TO llm_common_app;
GRANT ALL ON FUNCTION public.rollout_reset(flag_name text, new_percentage integer) TO service_role;

REVOKE ALL ON FUNCTION public.rollout_set_enabled(flag_name text, is_enabled boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION public.rollout_set_enabled(flag_name text, is_enabled boolean) TO llm_common_app;
GRANT ALL ON FUNCTION public.rollout_set_enabled(flag_name text, is_enabled boolean) TO service_role;

REVOKE ALL ON FUNCTION public.rollout_set_percentage(flag_name text, new_percentage integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.rollout_set_percentage(flag_name text, new_percentage integer) TO llm_common_app;
GRANT ALL ON FUNCTION public.rollout_set_percentage(flag_name text, new_percentage integer) TO service_role;

REVOKE ALL ON FUNCTION public.save_step(lease jsonb, step jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.save_step(lease jsonb, step jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.save_step(lease jsonb, step jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.score_run(run_id uuid, quality double precision, note text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.score_run(run_id uuid, quality double precision, note text) TO llm_common_app;
GRANT ALL ON FUNCTION public.score_run(run_id uuid, quality double precision, note text) TO service_role;

REVOKE ALL ON FUNCTION public.search_cache_count(batch jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.search_cache_count(batch jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.search_cache_count(batch jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.search_cache_get(key text, folded_query text, max_age_seconds double precision, lease_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.search_cache_get(key text, folded_query text, max_age_seconds double precision, lease_seconds double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.search_cache_get(key text, folded_query text, max_age_seconds double precision, lease_seconds double precision) TO service_role;

REVOKE ALL ON FUNCTION public.search_cache_invalidate(scope text, target text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.search_cache_invalidate(scope text, target text) TO llm_common_app;
GRANT ALL ON FUNCTION public.search_cache_invalidate(scope text, target text) TO service_role;

REVOKE ALL ON FUNCTION public.search_cache_peek(key text, max_age_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.search_cache_peek(key text, max_age_seconds double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.search_cache_peek(key text, max_age_seconds double precision) TO llm_common_read;
GRANT ALL ON FUNCTION public.search_cache_peek(key text, max_age_seconds double precision) TO service_role;

REVOKE ALL ON FUNCTION public.search_cache_put(key text, lease uuid, entry jsonb, fresh_seconds double precision, stale_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.search_cache_put(key text, lease uuid, entry jsonb, fresh_seconds double precision, stale_seconds double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.search_cache_put(key text, lease uuid, entry jsonb, fresh_seconds double precision, stale_seconds double precision) TO service_role;

REVOKE ALL ON FUNCTION public.search_cache_release(key text, lease uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION public.search_cache_release(key text, lease uuid) TO llm_common_app;
GRANT ALL ON FUNCTION public.search_cache_release(key text, lease uuid) TO service_role;

REVOKE ALL ON FUNCTION public.search_cache_renew(key text, lease uuid, lease_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.search_cache_renew(key text, lease uuid, lease_seconds double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.search_cache_renew(key text, lease uuid, lease_seconds double precision) TO service_role;

REVOKE ALL ON FUNCTION public.search_documents_delete(urls jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.search_documents_delete(urls jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.search_documents_delete(urls jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.search_documents_find(query text, count integer, domains jsonb, since date) FROM PUBLIC;
GRANT ALL ON FUNCTION public.search_documents_find(query text, count integer, domains jsonb, since date) TO llm_common_app;
GRANT ALL ON FUNCTION public.search_documents_find(query text, count integer, domains jsonb, since date) TO llm_common_read;
GRANT ALL ON FUNCTION public.search_documents_find(query text, count integer, domains jsonb, since date) TO service_role;

REVOKE ALL ON FUNCTION public.search_documents_put(documents jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.search_documents_put(documents jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.search_documents_put(documents jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.set_cost_time_zone(project text, time_zone text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.set_cost_time_zone(project text, time_zone text) TO llm_common_app;
GRANT ALL ON FUNCTION public.set_cost_time_zone(project text, time_zone text) TO service_role;

REVOKE ALL ON FUNCTION public.settle_cost(reservation_id uuid, outcome jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION public.settle_cost(reservation_id uuid, outcome jsonb) TO llm_common_app;
GRANT ALL ON FUNCTION public.settle_cost(reservation_id uuid, outcome jsonb) TO service_role;

REVOKE ALL ON FUNCTION public.start_run(run jsonb, worker text, lease_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.start_run(run jsonb, worker text, lease_seconds double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.start_run(run jsonb, worker text, lease_seconds double precision) TO service_role;

REVOKE ALL ON FUNCTION public.stop_run(lease jsonb, final_status text, error_message text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.stop_run(lease jsonb, final_status text, error_message text) TO llm_common_app;
GRANT ALL ON FUNCTION public.stop_run(lease jsonb, final_status text, error_message text) TO service_role;

REVOKE ALL ON FUNCTION public.sweep_stale_runs(max_rows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION public.sweep_stale_runs(max_rows integer) TO llm_common_app;
GRANT ALL ON FUNCTION public.sweep_stale_runs(max_rows integer) TO service_role;

REVOKE ALL ON FUNCTION public.take_run(run_id uuid, worker text, code_version text, lease_seconds double precision) FROM PUBLIC;
GRANT ALL ON FUNCTION public.take_run(run_id uuid, worker text, code_version text, lease_seconds double precision) TO llm_common_app;
GRANT ALL ON FUNCTION public.take_run(run_id uuid, worker text, code_version text, lease_seconds double precision) TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.budget_windows TO llm_common_app;
GRANT SELECT ON TABLE public.budget_windows TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.budget_windows TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.conversation_summaries TO llm_common_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.conversation_summaries TO service_role;

GRANT SELECT(id) ON TABLE public.conversation_summaries TO llm_common_read;

GRANT SELECT(user_id) ON TABLE public.conversation_summaries TO llm_common_read;

GRANT SELECT(covers_through) ON TABLE public.conversation_summaries TO llm_common_read;

GRANT SELECT(created_at) ON TABLE public.conversation_summaries TO llm_common_read;

GRANT USAGE ON SEQUENCE public.conversation_summaries_id_seq TO llm_common_app;
GRANT USAGE ON SEQUENCE public.conversation_summaries_id_seq TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.conversations TO llm_common_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.conversations TO service_role;

GRANT SELECT(id) ON TABLE public.conversations TO llm_common_read;

GRANT SELECT(seq) ON TABLE public.conversations TO llm_common_read;

GRANT SELECT(user_id) ON TABLE public.conversations TO llm_common_read;

GRANT SELECT(role) ON TABLE public.conversations TO llm_common_read;

GRANT SELECT("timestamp") ON TABLE public.conversations TO llm_common_read;

GRANT SELECT(page) ON TABLE public.conversations TO llm_common_read;

GRANT USAGE ON SEQUENCE public.conversations_seq_seq TO llm_common_app;
GRANT USAGE ON SEQUENCE public.conversations_seq_seq TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cost_alerts TO llm_common_app;
GRANT SELECT ON TABLE public.cost_alerts TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cost_alerts TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cost_daily TO llm_common_app;
GRANT SELECT ON TABLE public.cost_daily TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cost_daily TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cost_daily_users TO llm_common_app;
GRANT SELECT ON TABLE public.cost_daily_users TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cost_daily_users TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cost_price_factors TO llm_common_app;
GRANT SELECT ON TABLE public.cost_price_factors TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cost_price_factors TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cost_projects TO llm_common_app;
GRANT SELECT ON TABLE public.cost_projects TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.cost_projects TO service_role;

GRANT SELECT ON TABLE public.llm_common_migrations TO llm_common_app;
GRANT SELECT ON TABLE public.llm_common_migrations TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.llm_common_migrations TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.llm_response_cache TO llm_common_app;
GRANT SELECT ON TABLE public.llm_response_cache TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.llm_response_cache TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.llm_response_forgotten TO llm_common_app;
GRANT SELECT ON TABLE public.llm_response_forgotten TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.llm_response_forgotten TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.pipeline_steps TO llm_common_app;
GRANT SELECT ON TABLE public.pipeline_steps TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.pipeline_steps TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.rate_limit_buckets TO llm_common_app;
GRANT SELECT ON TABLE public.rate_limit_buckets TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.rate_limit_buckets TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.rate_limit_slots TO llm_common_app;
GRANT SELECT ON TABLE public.rate_limit_slots TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.rate_limit_slots TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.rollout_flags TO llm_common_app;
GRANT SELECT ON TABLE public.rollout_flags TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.rollout_flags TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.rollout_outcomes TO llm_common_app;
GRANT SELECT ON TABLE public.rollout_outcomes TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.rollout_outcomes TO service_role;

GRANT USAGE ON SEQUENCE public.rollout_outcomes_id_seq TO llm_common_app;
GRANT USAGE ON SEQUENCE public.rollout_outcomes_id_seq TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.search_documents TO llm_common_app;
GRANT SELECT ON TABLE public.search_documents TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.search_documents TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.web_search_cache TO llm_common_app;
GRANT SELECT ON TABLE public.web_search_cache TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.web_search_cache TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.web_search_leases TO llm_common_app;
GRANT SELECT ON TABLE public.web_search_leases TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.web_search_leases TO service_role;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.web_search_stats TO llm_common_app;
GRANT SELECT ON TABLE public.web_search_stats TO llm_common_read;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.web_search_stats TO service_role;
