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

NOTIFY pgrst, 'reload schema';
