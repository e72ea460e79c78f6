-- Limits and the clean-up of stored answers read what they need, however much lies beside it.
--
-- Rows were joined with the list of demands, and the planner, which takes such a list to be a hundred long, read all
-- buckets and slots of all namespaces instead of two of each, behind the gate where others wait.

-- As before; each bucket and slot is found by its key.
CREATE OR REPLACE FUNCTION public.rate_limit_take(
    of_namespace text, with_permit uuid, demands jsonb, lease_seconds double precision
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

-- As before; each bucket and slot is found by its key.
CREATE OR REPLACE FUNCTION public.rate_limit_end(of_namespace text, with_permit uuid, corrections jsonb)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

-- As before; it stops at the first answer that has not expired.
CREATE OR REPLACE FUNCTION public.cleanup_response_cache(max_rows integer DEFAULT 10000) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

SELECT public.llm_common_secure_function('public.rate_limit_take(text, uuid, jsonb, double precision)');
SELECT public.llm_common_secure_function('public.rate_limit_end(text, uuid, jsonb)');
SELECT public.llm_common_secure_function('public.cleanup_response_cache(integer)');

NOTIFY pgrst, 'reload schema';
