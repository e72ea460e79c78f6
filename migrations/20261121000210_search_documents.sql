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
                              'StartSel="", StopSel="", MaxFragments=2, MaxWords=60, MinWords=20, FragmentDelimiter=" … "')
           ) ORDER BY b.score DESC, b.url), '[]')
      FROM best b
$$;

SELECT public.llm_common_secure_function(f::pg_catalog.regprocedure) FROM pg_catalog.unnest(ARRAY[
    'public.search_documents_put(jsonb)',
    'public.search_documents_delete(jsonb)',
    'public.search_documents_find(text, integer, jsonb, date)'
]) AS f;

NOTIFY pgrst, 'reload schema';
