-- A hit in one look, before anything else is weighed: most searches end there. What is answered is as before.

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

NOTIFY pgrst, 'reload schema';
