-- What the other migrations stand on: who may touch our tables and functions, and what was applied.
--
-- The schema public is shared with the host, so nothing here is granted or revoked beyond the object that is named.
-- The API roles of Supabase (anon, authenticated, service_role) are looked up first: a plain Postgres lacks them.

-- The API roles that exist here and must not reach what is ours. PUBLIC is every role, also those of the future.
CREATE OR REPLACE FUNCTION public.llm_common_shut_out() RETURNS text
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.concat_ws(', ', 'PUBLIC', pg_catalog.string_agg(pg_catalog.quote_ident(r.rolname), ', '))
      FROM pg_catalog.pg_roles r
     WHERE r.rolname IN ('anon', 'authenticated')
$$;

-- Row-level security on; only the owner and service_role get through.
CREATE OR REPLACE FUNCTION public.llm_common_secure_table(target regclass) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    has_service_role boolean := EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'service_role');
    its_sequence regclass;
BEGIN
    EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    EXECUTE pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s', target, public.llm_common_shut_out());
    IF has_service_role THEN
        EXECUTE pg_catalog.format('GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %s TO service_role', target);
        EXECUTE pg_catalog.format('DROP POLICY IF EXISTS llm_common_service_role ON %s', target);
        EXECUTE pg_catalog.format(
            'CREATE POLICY llm_common_service_role ON %s TO service_role USING (true) WITH CHECK (true)', target);
    END IF;

    -- Columns that number themselves (identity, serial) have a sequence, with rights of its own.
    FOR its_sequence IN
        SELECT d.objid::regclass FROM pg_catalog.pg_depend d
          JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
         WHERE d.refobjid = target AND d.deptype IN ('a', 'i')
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON SEQUENCE %s FROM %s', its_sequence, public.llm_common_shut_out());
        IF has_service_role THEN
            EXECUTE pg_catalog.format('GRANT USAGE ON SEQUENCE %s TO service_role', its_sequence);
        END IF;
    END LOOP;
END $$;

-- Only the owner and service_role may call it, be it a function or a procedure.
CREATE OR REPLACE FUNCTION public.llm_common_secure_function(target regprocedure) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM %s', target, public.llm_common_shut_out());
    IF EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'service_role') THEN
        EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO service_role', target);
    END IF;
END $$;

SELECT public.llm_common_secure_function('public.llm_common_shut_out()');
SELECT public.llm_common_secure_function('public.llm_common_secure_table(regclass)');
SELECT public.llm_common_secure_function('public.llm_common_secure_function(regprocedure)');

-- Which files `llm-common migrate` has applied; the checksum is the SHA-256 of the file, in hex.
CREATE TABLE IF NOT EXISTS public.llm_common_migrations (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);

SELECT public.llm_common_secure_table('public.llm_common_migrations');

NOTIFY pgrst, 'reload schema';
