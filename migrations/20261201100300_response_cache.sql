-- Answers of models, for hosts that ask for it: found by a hash of the whole request, project and user included.
--
-- `response_cache_get` answers in one round trip, and gives a ticket: its time. `response_cache_put` stores nothing when
-- the owner's answers were forgotten at or after that time, so that what was asked before a deletion is not stored after
-- it. Putting and forgetting take the owner's advisory lock (shared by those who put), and the project's before it.

BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SELECT public.llm_common_look_first();

CREATE TABLE IF NOT EXISTS public.llm_response_cache (
    cache_key  text PRIMARY KEY,
    project    text NOT NULL,
    user_id    text,
    answer     jsonb NOT NULL,
    stored_at  timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT llm_response_cache_answer_is_an_object CHECK (pg_catalog.jsonb_typeof(answer) = 'object')
);
CREATE INDEX IF NOT EXISTS llm_response_cache_owner ON public.llm_response_cache (project, user_id);
CREATE INDEX IF NOT EXISTS llm_response_cache_expiry ON public.llm_response_cache (expires_at);

-- Whose answers were forgotten, and when; user_id '' is the whole project. Cleaned up after a day, when every call that
-- was under way has ended.
CREATE TABLE IF NOT EXISTS public.llm_response_forgotten (
    project      text NOT NULL,
    user_id      text NOT NULL,
    forgotten_at timestamptz NOT NULL,
    PRIMARY KEY (project, user_id)
);

SELECT public.llm_common_secure_table('public.llm_response_cache');
SELECT public.llm_common_secure_table('public.llm_response_forgotten');

-- {"ticket": "2026-11-26T22:23:00.123456+00:00", "answer": {...} | null}
CREATE OR REPLACE FUNCTION public.response_cache_get(key text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.jsonb_build_object(
        'ticket', pg_catalog.clock_timestamp(),
        'answer', (SELECT c.answer FROM public.llm_response_cache c
                    WHERE c.cache_key = key AND c.expires_at > pg_catalog.clock_timestamp()))
$$;

-- entry: {"project", "user_id", "answer": {...}}. False, and nothing stored, after the owner's answers were forgotten.
CREATE OR REPLACE FUNCTION public.response_cache_put(key text, entry jsonb, ttl_seconds double precision, ticket text)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

-- Deletes a user's answers, or with null those of the whole project. Returns their number.
CREATE OR REPLACE FUNCTION public.response_cache_forget(project text, user_id text DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

-- Deletes at most max_rows answers that have expired, and marks of deletions that are a day old. Call it daily.
-- Returns the number of answers.
-- It stops at the first answer that has not expired.
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

SELECT public.llm_common_secure_functions(ARRAY[
    'response_cache_get', 'response_cache_put', 'response_cache_forget', 'cleanup_response_cache']);

NOTIFY pgrst, 'reload schema';
SELECT public.llm_common_record('20261201100300_response_cache.sql', '3b7fe09d54eca3974f35eeaa8dfa59c0746e8390cf5a41ac63f82fabcf2834d0');
COMMIT;
