-- Limits that many processes share: token buckets for requests and tokens per minute, and slots for what is in flight.
--
-- A bucket is the moment at which it is full again, in microseconds since 1970 by this server's clock: taking moves it
-- on, the passing of time is the refill, so a look writes nothing. How far a request moves it, and how far from full it
-- may be, is told by the caller (llm_common/llm/limits/rules.py has the arithmetic); all of it is in whole microseconds. A
-- slot is a lease that ends by itself, so that a process that died holds none for ever.
--
-- Whoever takes or gives back holds the gates of its keys, advisory locks in the order of their hashes, for the length
-- of one function.

BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SELECT public.llm_common_look_first();

CREATE TABLE IF NOT EXISTS public.rate_limit_buckets (
    namespace        text NOT NULL,
    key              text NOT NULL,
    requests_full_at bigint NOT NULL DEFAULT 0,
    tokens_full_at   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (namespace, key)
) WITH (fillfactor = 50);

CREATE TABLE IF NOT EXISTS public.rate_limit_slots (
    namespace  text NOT NULL,
    key        text NOT NULL,
    permit     uuid NOT NULL,
    held_until timestamptz NOT NULL,
    PRIMARY KEY (namespace, key, permit)
) WITH (fillfactor = 50);

SELECT public.llm_common_secure_table('public.rate_limit_buckets');
SELECT public.llm_common_secure_table('public.rate_limit_slots');

-- One at a time from here to the end of the transaction, for each key.
CREATE OR REPLACE FUNCTION public.rate_limit_gates(of_namespace text, keys text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

-- All limits let the request go, or nothing is taken.
-- demands: [{"key", "concurrency", "requests_us", "requests_spare_us", "tokens_us", "tokens_spare_us"}], null: no limit
-- []: it may go, and holds its slots until rate_limit_end, at most lease_seconds.
-- [{"key", "limit", "wait_us"}]: why it may not, and how long that lasts at least (null: until a slot comes free).
-- Each bucket and slot is found by its key: joined with the list of demands, which the planner takes to be a hundred
-- long, all buckets and slots of all namespaces would be read behind the gate where others wait.
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

-- The request is over, or was never sent: its slots come free, and its buckets move by what is known by now.
-- corrections: [{"key", "requests_us", "tokens_us"}], signed. Gives the number of slots that came free.
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

SELECT public.llm_common_secure_functions(ARRAY[
    'rate_limit_gates', 'rate_limit_take', 'rate_limit_end']);

NOTIFY pgrst, 'reload schema';
SELECT public.llm_common_record('20261201100400_rate_limits.sql', '106fa2a520fb5a40b5d9bcfdca63c83e095c81465ca112b49c3ff87e487ac56b');
COMMIT;
