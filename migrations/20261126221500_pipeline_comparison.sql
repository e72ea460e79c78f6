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
               r.review_passed, r.quality_score,
               pg_catalog.jsonb_array_length(r.analysis_json -> 'unsupported') AS left_out,
               (r.analysis_json ->> 'rounds')::integer AS rounds, paid.cost_usd, paid.tokens,
               CASE WHEN r.status = 'completed' THEN EXTRACT(epoch FROM r.completed_at - r.started_at) END AS seconds
          FROM public.pipeline_runs r
          LEFT JOIN LATERAL (
               SELECT coalesce(pg_catalog.sum(c.cost_usd), 0) AS cost_usd,
                      coalesce(pg_catalog.sum(c.tokens_used), 0) AS tokens
                 FROM public.cost_tracking c WHERE c.run_id = r.id::text) paid ON true
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

DO $$
DECLARE
    mine regprocedure;
BEGIN
    FOR mine IN
        SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
            'pipeline_comparison', 'compare_pipelines', 'compare_runs')
    LOOP
        PERFORM public.llm_common_secure_function(mine);
    END LOOP;
END $$;

NOTIFY pgrst, 'reload schema';
