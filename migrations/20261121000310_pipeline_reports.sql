-- What people and programs read of runs, and what people think of them.

-- The run with its steps, in their order; without the bill's text and the steps' outputs.
CREATE OR REPLACE FUNCTION public.get_run(run_id uuid) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    known public.pipeline_runs := public.pipeline_locked(run_id);
BEGIN
    RETURN public.pipeline_run_json(known) || pg_catalog.jsonb_build_object('steps', (
        SELECT coalesce(pg_catalog.jsonb_agg(
                   pg_catalog.jsonb_build_object(
                       'key', s.key, 'step', s.step, 'model', s.model, 'status', s.status, 'timestamp', s."timestamp",
                       'cost_nano', (c.cost_usd * 1000000000)::bigint, 'tokens_used', c.tokens_used,
                       'latency_ms', c.latency_ms)
                   ORDER BY s."position"), '[]')
          FROM public.pipeline_steps s LEFT JOIN public.cost_tracking c ON c.id = s.reservation_id
         WHERE s.run_id = known.id));
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
    UPDATE public.pipeline_runs r SET quality_score = quality, quality_note = note
     WHERE r.id = known.id RETURNING * INTO known;
    RETURN public.pipeline_run_json(known);
END $$;

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

DO $$
DECLARE
    mine regprocedure;
BEGIN
    FOR mine IN
        SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
            'get_run', 'list_runs', 'score_run', 'compare_models')
    LOOP
        PERFORM public.llm_common_secure_function(mine);
    END LOOP;
END $$;

NOTIFY pgrst, 'reload schema';
