-- Conversation memory: what one user and the assistant said, and summaries of what is long past.
--
-- The owner is in every WHERE: a message id alone reaches nothing. Whoever writes for a user takes that user's lock
-- first, so that ids become visible in their order; otherwise a summary "through id 7" could miss a 6 that commits
-- later. Rows that are inserted past these functions lose that promise.

BEGIN;
SET LOCAL search_path = public, pg_temp;
SET LOCAL standard_conforming_strings = on;

SELECT public.llm_common_put_aside('conversations');

-- Databases of November 2026 number their messages in `id`.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = pg_catalog.to_regclass('public.conversations')
                  AND a.attname = 'id' AND a.atttypid = 'bigint'::pg_catalog.regtype) THEN
        ALTER TABLE public.conversations RENAME COLUMN id TO seq;
        ALTER SEQUENCE public.conversations_id_seq RENAME TO conversations_seq_seq;
        ALTER TABLE public.conversations ADD COLUMN id uuid;
        ALTER TABLE public.conversations ALTER COLUMN id SET DEFAULT pg_catalog.gen_random_uuid();
    END IF;
END $$;

-- `seq` is the order of the messages, and what our functions call their id. `id` is the host's own, where it has one.
CREATE TABLE IF NOT EXISTS public.conversations (
    seq         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          uuid DEFAULT pg_catalog.gen_random_uuid(),
    user_id     text NOT NULL,
    role        text NOT NULL,
    content     text NOT NULL,
    "timestamp" timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    page        text,
    -- Cut, because a tsvector holds at most 1 MB of words and their parts. No GIN index: it cannot lead with user_id without an extension,
    -- and the messages of one user are few enough to be looked through.
    words       tsvector GENERATED ALWAYS AS
                (pg_catalog.to_tsvector('pg_catalog.simple', pg_catalog."left"(content, 50000))) STORED,
    CONSTRAINT conversations_user_id_is_not_empty CHECK (user_id <> ''),
    CONSTRAINT conversations_role_is_known CHECK (role IN ('system', 'user', 'assistant', 'tool'))
);
CREATE INDEX IF NOT EXISTS conversations_by_user ON public.conversations (user_id, seq);
CREATE INDEX IF NOT EXISTS conversations_by_time ON public.conversations USING brin ("timestamp");

-- Each row condenses the row before it and the messages after that one, so it holds traces of every message up to
-- covers_through. The earlier rows are kept: forgetting one message falls back to the last one that is free of it.
CREATE TABLE IF NOT EXISTS public.conversation_summaries (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id        text NOT NULL,
    covers_through bigint NOT NULL,
    summary        text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT conversation_summaries_summary_is_not_empty CHECK (summary <> '')
);
CREATE UNIQUE INDEX IF NOT EXISTS conversation_summaries_by_user
    ON public.conversation_summaries (user_id, covers_through);

CREATE OR REPLACE FUNCTION public.conversation_user_is(user_id text, owner uuid) RETURNS boolean
LANGUAGE sql IMMUTABLE SECURITY INVOKER SET search_path = '' AS $$ SELECT user_id = owner::text $$;

-- How long a message may be is for the function that saves one: rows of before and of the host's own code stay.
ALTER TABLE public.conversations DROP CONSTRAINT IF EXISTS conversations_content_fits;

DO $$
BEGIN
    IF pg_catalog.to_regclass('public.conversations_of_host') IS NOT NULL THEN
        PERFORM pg_catalog.set_config('TimeZone', 'UTC', true);
        INSERT INTO public.conversations (id, user_id, role, content, "timestamp", page)
        SELECT (r ->> 'id')::uuid, coalesce(nullif(r ->> 'user_id', ''), 'unknown'),
               CASE WHEN r ->> 'role' IN ('system', 'user', 'assistant', 'tool') THEN r ->> 'role' ELSE 'user' END,
               coalesce(r ->> 'content', ''), coalesce((r ->> 'timestamp')::timestamptz, 'epoch'), r ->> 'page'
          FROM public.conversations_of_host h CROSS JOIN LATERAL (SELECT pg_catalog.to_jsonb(h) AS r) j
         ORDER BY (r ->> 'timestamp')::timestamptz NULLS FIRST, r ->> 'id';
        PERFORM public.llm_common_take_over('conversations', 'id');
        -- Where a host says WHERE user_id = a uuid.
        IF pg_catalog.to_regoperator('public.=(text,uuid)') IS NULL THEN
            CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = uuid, FUNCTION = public.conversation_user_is);
        END IF;
    END IF;
END $$;

SELECT public.llm_common_drop_old_functions('{cleanup_conversations}');

SELECT public.llm_common_secure_table('public.conversations');
SELECT public.llm_common_secure_table('public.conversation_summaries');

CREATE OR REPLACE FUNCTION public.conversation_lock(owner text) RETURNS void
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('llm_common.conversations:' || owner, 0))
$$;

CREATE OR REPLACE FUNCTION public.conversation_save(owner text, said_by text, said text, on_page text)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    new_id bigint;
BEGIN
    IF pg_catalog.octet_length(said) NOT BETWEEN 1 AND 1048576 THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = pg_catalog.format(
            'a message has 1 to 1048576 bytes, not %s', pg_catalog.octet_length(said));
    END IF;
    PERFORM public.conversation_lock(owner);
    INSERT INTO public.conversations (user_id, role, content, page)
    VALUES (owner, said_by, said, on_page)
    RETURNING seq INTO new_id;
    RETURN new_id;
END $$;

-- {"summary": text | null, "messages": [oldest first]}. With a page: that page's messages and those of no page.
CREATE OR REPLACE FUNCTION public.conversation_context(owner text, on_page text, newest integer) RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
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
                    WHERE w.user_id = owner AND (on_page IS NULL OR w.page IS NULL OR w.page = on_page)
                    ORDER BY w.seq DESC LIMIT newest)
        ), '[]'))
$$;

-- The newest messages before an id (NULL: of all), oldest first.
CREATE OR REPLACE FUNCTION public.conversation_history(owner text, newest integer, before_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
               'id', c.seq, 'role', c.role, 'content', c.content, 'timestamp', c."timestamp", 'page', c.page)
           ORDER BY c.seq), '[]')
      FROM public.conversations c
     WHERE c.user_id = owner AND c.seq IN (
           SELECT w.seq FROM public.conversations w
            WHERE w.user_id = owner AND (before_id IS NULL OR w.seq < before_id)
            ORDER BY w.seq DESC LIMIT newest)
$$;

-- Messages that fit a query, best first: those with all its words (or with the query as it stands, which is how
-- languages without spaces are found), then those with some; the newer of equals first.
CREATE OR REPLACE FUNCTION public.conversation_recall(owner text, query text, at_most integer) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    lexemes text[] := pg_catalog.tsvector_to_array(pg_catalog.to_tsvector('pg_catalog.simple', query));
    quoted text[] := ARRAY(
        SELECT '''' || pg_catalog.replace(pg_catalog.replace(l, '\', '\\'), '''', '''''') || ''''
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

-- What a summary is due for: the oldest messages that are neither in the newest summary nor among the `keep` newest.
-- Long messages are clipped; a batch ends after max_messages, or before max_characters (clipped) are passed.
-- {"summary_id": bigint | null, "summary": text | null, "messages": [{"id", "role", "content", "clipped": count}]}
CREATE OR REPLACE FUNCTION public.conversation_backlog(
    owner text, keep integer, max_messages integer, max_characters integer, clip integer
) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
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

-- Compare-and-set: stores a summary only if the one it continues is still the newest, and the messages it condenses
-- are all still there. So of two at once one is stored, and what was forgotten meanwhile does not come back in it.
CREATE OR REPLACE FUNCTION public.conversation_save_summary(
    owner text, previous_id bigint, through_id bigint, message_count integer, summary_text text
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

-- Everything of one user, for good. {"messages": count, "summaries": count}
CREATE OR REPLACE FUNCTION public.conversation_forget(owner text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

-- One message, and every summary that it went into. {"messages": 0 | 1, "summaries": count}
CREATE OR REPLACE FUNCTION public.conversation_forget_message(owner text, message_id bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

-- Retention: deletes messages older than so many days, and summaries that were not renewed for as long. The summary
-- of a user who keeps coming back stays, as it is what remembers those messages; conversation_forget deletes it.
-- Call it daily. Returns the messages deleted.
CREATE OR REPLACE FUNCTION public.cleanup_conversations(days integer DEFAULT 90) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

-- Only the owner and service_role may call what is defined here.
SELECT public.llm_common_secure_function(p.oid::pg_catalog.regprocedure)
  FROM pg_catalog.pg_proc p
 WHERE p.pronamespace = 'public'::pg_catalog.regnamespace
   AND p.proname IN (
        'conversation_user_is', 'conversation_lock', 'conversation_save', 'conversation_context', 'conversation_history',
        'conversation_recall', 'conversation_backlog', 'conversation_save_summary', 'conversation_forget',
        'conversation_forget_message', 'cleanup_conversations');

NOTIFY pgrst, 'reload schema';
COMMIT;
