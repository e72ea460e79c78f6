-- The shared tier of the search cache: answers, the leases of those who fetch one, and counters.
--
-- One key is fetched by one process at a time. `search_cache_get` answers in one round trip whether to serve (hit,
-- stale), to fetch (lease) or to ask again shortly (wait). Leases live in a table of their own, so that
-- web_search_cache only ever shows answers that somebody really got. Locks are taken leases first, then entries, each
-- in the order of their keys.

BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SELECT public.llm_common_look_first();

-- A table of the first schema becomes the one below; nothing is rewritten but a hit_count of another type.
DO $$
BEGIN
    IF EXISTS (SELECT FROM public.llm_common_tables() t WHERE t.name = 'web_search_cache' AND t.state = 'earlier') THEN
        ALTER TABLE public.web_search_cache ADD COLUMN IF NOT EXISTS hit_count bigint DEFAULT 0;
        PERFORM public.llm_common_convert('public.web_search_cache', '{}', $changes$
            ALTER COLUMN cache_key TYPE text,
            ALTER COLUMN query TYPE text,
            ALTER COLUMN results TYPE jsonb USING results::jsonb,
            ALTER COLUMN cached_at DROP DEFAULT,
            ALTER COLUMN cached_at TYPE timestamptz,
            ALTER COLUMN cached_at SET DEFAULT pg_catalog.clock_timestamp(),
            ALTER COLUMN hit_count DROP DEFAULT,
            ALTER COLUMN hit_count TYPE bigint,
            ALTER COLUMN hit_count SET DEFAULT 0,
            ADD COLUMN query_folded text NOT NULL DEFAULT '',
            ADD COLUMN provider text NOT NULL DEFAULT '',
            ADD COLUMN fresh_until timestamptz NOT NULL DEFAULT 'epoch',
            ADD COLUMN stale_until timestamptz NOT NULL DEFAULT 'epoch',
            SET (fillfactor = 80)
        $changes$);
    END IF;
END $$;

-- `query_folded` is the text that equivalent queries share; it has no index because only invalidation reads it,
-- and every index would be paid for by each put. The fillfactor leaves room for counting hits in place. A row without a
-- provider is one that the host wrote, in the columns of the first schema: it is no answer to us, and kept for a day.
CREATE TABLE IF NOT EXISTS public.web_search_cache (
    cache_key    text PRIMARY KEY,
    query        text,
    results      jsonb,
    cached_at    timestamptz DEFAULT pg_catalog.clock_timestamp(),
    hit_count    bigint DEFAULT 0,
    query_folded text NOT NULL DEFAULT '',
    provider     text NOT NULL DEFAULT '',
    fresh_until  timestamptz NOT NULL DEFAULT 'epoch',
    stale_until  timestamptz NOT NULL DEFAULT 'epoch'
) WITH (fillfactor = 80);
ALTER TABLE public.web_search_cache
    ALTER COLUMN query DROP NOT NULL,
    ALTER COLUMN results DROP NOT NULL,
    ALTER COLUMN cached_at DROP NOT NULL,
    ALTER COLUMN hit_count DROP NOT NULL,
    ALTER COLUMN query_folded SET DEFAULT '',
    ALTER COLUMN provider SET DEFAULT '',
    ALTER COLUMN fresh_until SET DEFAULT 'epoch',
    ALTER COLUMN stale_until SET DEFAULT 'epoch',
    DROP CONSTRAINT IF EXISTS web_search_cache_results_are_a_list;
SELECT public.llm_common_constrain('public.web_search_cache', 'web_search_cache_answer',
    $$provider = '' OR (query IS NOT NULL AND cached_at IS NOT NULL AND pg_catalog.jsonb_typeof(results) = 'array') IS TRUE$$);

CREATE TABLE IF NOT EXISTS public.web_search_leases (
    cache_key    text PRIMARY KEY,
    query_folded text NOT NULL,
    token        uuid NOT NULL,
    held_until   timestamptz NOT NULL
);

-- One row per day, provider and shard: writers land on different shards, so that counting is no hot row.
CREATE TABLE IF NOT EXISTS public.web_search_stats (
    day               date NOT NULL,
    provider          text NOT NULL,
    shard             smallint NOT NULL,
    memory_hits       bigint NOT NULL DEFAULT 0,
    db_hits           bigint NOT NULL DEFAULT 0,
    stale_hits        bigint NOT NULL DEFAULT 0,
    coalesced         bigint NOT NULL DEFAULT 0,
    misses            bigint NOT NULL DEFAULT 0,
    errors            bigint NOT NULL DEFAULT 0,
    upstream_requests bigint NOT NULL DEFAULT 0,
    skipped_items     bigint NOT NULL DEFAULT 0,
    spent_nano        bigint NOT NULL DEFAULT 0,
    saved_nano        bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (day, provider, shard)
);

SELECT public.llm_common_secure_table('public.web_search_cache');
SELECT public.llm_common_secure_table('public.web_search_leases');
SELECT public.llm_common_secure_table('public.web_search_stats');

-- Leases and answers need not be on the disk before the search goes on. A crash of the server may forget the last
-- moments of them, and then a search is asked again; its cost is in the ledger, which waits. Many searches at once spend
-- half of their time in the database waiting for the disk otherwise.

-- A reader may be stricter than the writer was: nothing older than max_age_seconds is fresh to it.
-- {"state": "hit", "results": [...], "fresh_seconds": 12.5}
-- {"state": "stale", "results": [...], "lease": uuid | null}   serve it; with a lease, also fetch
-- {"state": "lease", "lease": uuid}                            fetch, then put or release
-- {"state": "wait"}                                            somebody else is fetching
CREATE OR REPLACE FUNCTION public.search_cache_get(
    key text, folded_query text, max_age_seconds double precision, lease_seconds double precision
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

-- A fresh answer, without a lease where there is none: {"results": [...], "fresh_seconds": 12.5} or null.
CREATE OR REPLACE FUNCTION public.search_cache_peek(key text, max_age_seconds double precision) RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.jsonb_build_object('results', c.results,
               'fresh_seconds', extract(epoch FROM c.fresh_until - pg_catalog.clock_timestamp()))
      FROM (SELECT e.results,
                   least(e.fresh_until, e.cached_at + pg_catalog.make_interval(secs => max_age_seconds)) AS fresh_until
              FROM public.web_search_cache e WHERE e.cache_key = key) AS c
     WHERE c.fresh_until > pg_catalog.clock_timestamp()
$$;

-- Keeps a lease alive while its holder works; false when it was lost.
CREATE OR REPLACE FUNCTION public.search_cache_renew(key text, lease uuid, lease_seconds double precision)
RETURNS boolean
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    WITH renewed AS (
        UPDATE public.web_search_leases l
           SET held_until = pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => lease_seconds)
         WHERE l.cache_key = key AND l.token = lease
        RETURNING 1
    )
    SELECT EXISTS (SELECT FROM renewed)
$$;

-- Stores an answer and ends the lease; false, and nothing stored, when the lease was lost or invalidated.
-- entry: {"query", "query_folded", "provider", "results": [...]}
CREATE OR REPLACE FUNCTION public.search_cache_put(
    key text, lease uuid, entry jsonb, fresh_seconds double precision, stale_seconds double precision
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

-- The fetch failed: the next one who asks takes over at once instead of waiting for the lease to end.
CREATE OR REPLACE FUNCTION public.search_cache_release(key text, lease uuid) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    WITH released AS (
        DELETE FROM public.web_search_leases l WHERE l.cache_key = key AND l.token = lease RETURNING 1
    )
    SELECT EXISTS (SELECT FROM released)
$$;

-- Counters gathered by one process since it last called.
-- batch: {"days": [{"day", "provider", "memory_hits", ...}], "hits": {"<cache_key>": 3, ...}}
CREATE OR REPLACE FUNCTION public.search_cache_count(batch jsonb) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

-- scope: 'key', 'query' (every variant of one folded query), 'prefix' (of folded queries) or 'all'.
-- Fetches under way lose their lease, so that what they bring back is not stored. Returns the entries deleted.
CREATE OR REPLACE FUNCTION public.search_cache_invalidate(scope text, target text) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

SELECT public.llm_common_make_room('cleanup_search_cache');

-- Deletes what nobody would be served any more. Call it daily. Returns the entries deleted.
CREATE OR REPLACE FUNCTION public.cleanup_search_cache() RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

SELECT public.llm_common_make_room('get_cache_stats');

-- What the cache did, over all time, by day and by provider. Money in nano-dollars (1e-9 USD).
-- cache_hits are the searches that caused no request of their own; hit_rate is their share of total_searches.
CREATE OR REPLACE FUNCTION public.get_cache_stats() RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
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

-- Documents of one's own, searched by the provider `local`: for offline work, and for what the web does not have.
--
-- Words are matched with PostgreSQL's full-text search (English), any of them, best first. An index keeps that fast.

-- `host` is the address's host name in lower case, without `www.`.
CREATE TABLE IF NOT EXISTS public.search_documents (
    url       text PRIMARY KEY,
    host      text NOT NULL,
    title     text NOT NULL,
    content   text NOT NULL,
    published date,
    stored_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    -- A tsvector holds a megabyte; 250,000 characters always fit, and the rest of a page that long is not searched.
    words     tsvector NOT NULL GENERATED ALWAYS AS (
        pg_catalog.setweight(pg_catalog.to_tsvector('pg_catalog.english', title), 'A')
        || pg_catalog.setweight(
               pg_catalog.to_tsvector('pg_catalog.english', pg_catalog.left(content, 250000)), 'B')) STORED
);
CREATE INDEX IF NOT EXISTS search_documents_words ON public.search_documents USING gin (words);

SELECT public.llm_common_secure_table('public.search_documents');

-- Stores documents, and replaces those that are there already. Returns their number.
-- documents: [{"url", "host", "title", "content", "published": "2026-03-01" | null}, ...]
CREATE OR REPLACE FUNCTION public.search_documents_put(documents jsonb) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
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

-- Deletes documents by address, all of them for null. Returns their number.
CREATE OR REPLACE FUNCTION public.search_documents_delete(urls jsonb) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    deleted integer;
BEGIN
    DELETE FROM public.search_documents s
     WHERE urls IS NULL OR pg_catalog.jsonb_typeof(urls) = 'null'
        OR s.url IN (SELECT pg_catalog.jsonb_array_elements_text(urls));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;

-- The best `count` documents that have any word of `query`; of those `domains` (with their subdomains) if there are
-- any; undated, or published on `since` or later. [{"url", "title", "snippet", "published", "score"}, ...]
CREATE OR REPLACE FUNCTION public.search_documents_find(query text, count integer, domains jsonb, since date)
RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
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

SELECT public.llm_common_secure_functions(ARRAY[
    'search_cache_get', 'search_cache_peek', 'search_cache_renew', 'search_cache_put',
    'search_cache_release', 'search_cache_count', 'search_cache_invalidate', 'cleanup_search_cache',
    'get_cache_stats', 'search_documents_put', 'search_documents_delete', 'search_documents_find']);

NOTIFY pgrst, 'reload schema';
SELECT public.llm_common_record('20261201100200_search.sql', '4259c35ea36d8c52d13cae517c3ff0d9886c1a88f5868cba91ff94d570323e91');
COMMIT;
