-- What the other migrations stand on: who may touch our tables and functions, and what was applied.
--
-- The schema public is shared with the host, so nothing here is granted or revoked beyond the object that is named.
-- The API roles of Supabase (anon, authenticated, service_role) are looked up first: a plain Postgres lacks them.

BEGIN;
SET LOCAL search_path = public, pg_temp;
SET LOCAL standard_conforming_strings = on;

-- The API roles that exist here and must not reach what is ours. PUBLIC is every role, also those of the future.
CREATE OR REPLACE FUNCTION public.llm_common_shut_out() RETURNS text
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.concat_ws(', ', 'PUBLIC', pg_catalog.string_agg(pg_catalog.quote_ident(r.rolname), ', '))
      FROM pg_catalog.pg_roles r
     WHERE r.rolname IN ('anon', 'authenticated')
$$;

-- Row-level security on; only the owner and service_role get through. A table that was the host's own keeps what the
-- host granted on it (see llm_common_take_over), so that its users go on reading what they read before.
CREATE OR REPLACE FUNCTION public.llm_common_secure_table(target regclass) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    has_service_role boolean := EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'service_role');
    its_sequence regclass;
BEGIN
    IF pg_catalog.obj_description(target, 'pg_class') IS DISTINCT FROM 'granted by the host' THEN
        EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
        EXECUTE pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s', target, public.llm_common_shut_out());
    END IF;
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

-- Tables of the host -------------------------------------------------------------------------------------------------
--
-- Hosts have tables of our names: those of the documents' first schema (December 2025), with rows and with code that
-- goes on writing them. Each becomes ours and keeps every row, every column of the host's own, its grants, its policies
-- and what refers to it. A table that is neither is the host's, and nothing is touched.

-- What a table of ours has, and what one of the documents' first schema has.
CREATE OR REPLACE FUNCTION public.llm_common_table_shapes()
RETURNS TABLE (name text, ours text[], first_schema text[])
LANGUAGE sql IMMUTABLE SECURITY INVOKER SET search_path = '' AS $$
    VALUES ('web_search_cache', '{cache_key,query,results,fresh_until}'::text[], '{cache_key,query,results}'::text[]),
           ('cost_tracking', '{id,model,cost_usd,day,price_source}', '{id,model,cost_usd}'),
           ('pipeline_runs', '{id,bill_id,status,code_version}', '{id,bill_id,status}'),
           ('pipeline_steps', '{id,run_id,step,code_version}', '{id,run_id,step}'),
           ('conversations', '{user_id,role,content,words}', '{id,user_id,role,content}'),
           ('cost_projects', '{project,time_zone}', NULL),
           ('cost_reservations', '{id,bound_nano,expires_at}', NULL),
           ('budget_windows', '{project,scope,spent_nano}', NULL),
           ('cost_daily', '{project,day,cost_nano}', NULL),
           ('cost_daily_users', '{project,day,user_id}', NULL),
           ('cost_alerts', '{project,scope,threshold}', NULL),
           ('cost_price_factors', '{provider,model,factor}', NULL),
           ('web_search_leases', '{cache_key,token}', NULL),
           ('web_search_stats', '{day,provider,shard}', NULL),
           ('search_documents', '{url,host,words}', NULL),
           ('conversation_summaries', '{user_id,covers_through}', NULL),
           ('rollout_flags', '{flag,epoch}', NULL),
           ('rollout_outcomes', '{flag,arm}', NULL)
$$;

-- 'ours', 'first schema', 'foreign', or NULL where there is no table of that name.
CREATE OR REPLACE FUNCTION public.llm_common_table_kind(of_name text) RETURNS text
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT CASE WHEN columns.names @> s.ours THEN 'ours'
                WHEN columns.names @> s.first_schema THEN 'first schema'
                ELSE 'foreign' END
      FROM public.llm_common_table_shapes() s
      JOIN pg_catalog.pg_class c ON c.relname = s.name AND c.relnamespace = 'public'::pg_catalog.regnamespace
      CROSS JOIN LATERAL (
          SELECT pg_catalog.array_agg(a.attname::text) AS names FROM pg_catalog.pg_attribute a
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) columns
     WHERE s.name = of_name
$$;

-- The first of several notes creates the list; it is gone with the transaction. `llm-common migrate --dry-run` reads it.
CREATE OR REPLACE FUNCTION public.llm_common_note(note text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    IF pg_catalog.to_regclass('pg_temp.llm_common_notes') IS NULL THEN
        CREATE TEMPORARY TABLE llm_common_notes (note text) ON COMMIT DROP;
    END IF;
    EXECUTE 'INSERT INTO pg_temp.llm_common_notes VALUES ($1)' USING note;
    RAISE NOTICE '%', note;
END $$;

-- A table of the first schema is put aside under another name, so that ours can be made; true where there was one.
CREATE OR REPLACE FUNCTION public.llm_common_put_aside(of_name text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    theirs record;
BEGIN
    IF public.llm_common_table_kind(of_name) IS DISTINCT FROM 'first schema' THEN
        RETURN false;
    END IF;
    EXECUTE pg_catalog.format('ALTER TABLE public.%I RENAME TO %I', of_name, of_name || '_of_host');
    -- Names of indexes and of constraints with one are shared by a schema.
    FOR theirs IN
        SELECT i.relname FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
         WHERE x.indrelid = pg_catalog.format('public.%I', of_name || '_of_host')::pg_catalog.regclass
    LOOP
        EXECUTE pg_catalog.format('ALTER INDEX public.%I RENAME TO %I', theirs.relname, theirs.relname || '_of_host');
    END LOOP;
    RETURN true;
END $$;

-- Its rows are in our table by now. What the host added, granted and referred to is moved, and the old table goes.
CREATE OR REPLACE FUNCTION public.llm_common_take_over(of_name text, key text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    aside  regclass := pg_catalog.format('public.%I', of_name || '_of_host');
    target regclass := pg_catalog.format('public.%I', of_name);
    each   record;
    counts bigint[];
    closed boolean;
BEGIN
    EXECUTE pg_catalog.format('SELECT ARRAY[(SELECT count(*) FROM %s), (SELECT count(*) FROM %s h
        WHERE EXISTS (SELECT FROM %s o WHERE o.%I = h.%I))]', aside, aside, target, key, key) INTO counts;
    IF counts[1] <> counts[2] THEN
        RAISE EXCEPTION USING ERRCODE = 'LC008', MESSAGE = pg_catalog.format(
            '%s of %s rows of public.%s could be taken over; nothing was changed', counts[2], counts[1], of_name);
    END IF;
    FOR each IN
        SELECT a.attname AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = aside AND a.attnum > 0 AND NOT a.attisdropped
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute o WHERE o.attrelid = target AND o.attname = a.attname)
    LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s ADD COLUMN %I %s', target, each.name, each.type);
        EXECUTE pg_catalog.format('UPDATE %s o SET %I = h.%I FROM %s h WHERE h.%I = o.%I',
                                  target, each.name, each.name, aside, key, key);
    END LOOP;
    FOR each IN
        SELECT c.conrelid::regclass AS of_table, c.conname AS name, pg_catalog.pg_get_constraintdef(c.oid) AS definition
          FROM pg_catalog.pg_constraint c WHERE c.confrelid = aside AND c.contype = 'f'
    LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', each.of_table, each.name);
        IF each.of_table::text NOT LIKE '%pipeline_steps_of_host' THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s ADD CONSTRAINT %I %s', each.of_table, each.name,
                pg_catalog.replace(each.definition, of_name || '_of_host', of_name));
        END IF;
    END LOOP;
    -- All rights for everybody are what old Supabase projects gave each new table: nobody meant that. Chosen ones stay.
    SELECT NOT c.relrowsecurity AND pg_catalog.count(*) FILTER (WHERE g.privilege_type <> 'TRUNCATE') = 0
           OR NOT c.relrowsecurity AND pg_catalog.bool_or(g.privilege_type = 'TRUNCATE')
      INTO closed
      FROM pg_catalog.pg_class c
      LEFT JOIN LATERAL (SELECT * FROM pg_catalog.aclexplode(c.relacl) a
                          WHERE a.grantee <> c.relowner
                            AND a.grantee NOT IN (SELECT r.oid FROM pg_catalog.pg_roles r
                                                   WHERE r.rolname = 'service_role')) g ON true
     WHERE c.oid = aside GROUP BY c.relrowsecurity;
    IF NOT closed THEN
        EXECUTE pg_catalog.format('COMMENT ON TABLE %s IS %L', target, 'granted by the host');
        FOR each IN
            SELECT g.privilege_type AS privilege, coalesce(r.rolname::text, 'PUBLIC') AS role
              FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) g
              LEFT JOIN pg_catalog.pg_roles r ON r.oid = g.grantee
             WHERE c.oid = aside AND g.grantee <> c.relowner
        LOOP
            EXECUTE pg_catalog.format('GRANT %s ON TABLE %s TO %s', each.privilege, target,
                CASE each.role WHEN 'PUBLIC' THEN 'PUBLIC' ELSE pg_catalog.quote_ident(each.role) END);
        END LOOP;
        FOR each IN
            SELECT p.*, pg_catalog.array_to_string(ARRAY(SELECT CASE r WHEN 'public' THEN 'PUBLIC'
                                                                ELSE pg_catalog.quote_ident(r) END
                                                           FROM pg_catalog.unnest(p.roles) r), ', ') AS for_roles
              FROM pg_catalog.pg_policies p WHERE p.schemaname = 'public' AND p.tablename = of_name || '_of_host'
        LOOP
            -- A user's id was a uuid and is a text; auth.uid() is a uuid still.
            EXECUTE pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', each.policyname, target,
                each.permissive, each.cmd, each.for_roles)
                || coalesce(' USING (' || public.llm_common_uid_as_text(each.qual) || ')', '')
                || coalesce(' WITH CHECK (' || public.llm_common_uid_as_text(each.with_check) || ')', '');
        END LOOP;
        IF (SELECT c.relrowsecurity FROM pg_catalog.pg_class c WHERE c.oid = aside) THEN
            EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
        ELSE
            EXECUTE pg_catalog.format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', target);
        END IF;
    END IF;
    EXECUTE pg_catalog.format('DROP TABLE %s', aside);
    PERFORM public.llm_common_note(pg_catalog.format('public.%s of the host''s first schema: %s rows taken over', of_name, counts[1]));
END $$;

CREATE OR REPLACE FUNCTION public.llm_common_uid_as_text(expression text) RETURNS text
LANGUAGE sql IMMUTABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.regexp_replace(expression, '(auth\.uid\(\))(?!::text)', '(\1)::text', 'g')
$$;

-- A host's function of our name with another answer or other arguments would stand beside ours, or in its way.
CREATE OR REPLACE FUNCTION public.llm_common_drop_old_functions(names text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    old record;
BEGIN
    FOR old IN
        SELECT p.oid::pg_catalog.regprocedure AS signature FROM pg_catalog.pg_proc p
         WHERE p.pronamespace = 'public'::pg_catalog.regnamespace AND p.proname = ANY (names)
    LOOP
        EXECUTE pg_catalog.format('DROP FUNCTION %s', old.signature);
    END LOOP;
END $$;

-- Looked at before anything is made: of a table that cannot be ours nothing is touched, and nothing else either.
DO $$
DECLARE
    theirs text := (SELECT pg_catalog.string_agg('public.' || s.name, ', ' ORDER BY s.name)
                      FROM public.llm_common_table_shapes() s
                     WHERE public.llm_common_table_kind(s.name) = 'foreign');
BEGIN
    IF theirs IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LC008', MESSAGE = pg_catalog.format(
            '%s is not ours: it has neither our columns nor those of the documents'' first schema. Nothing was '
            'changed. Rename it, or give llm_common a database of its own', theirs);
    END IF;
END $$;

SELECT public.llm_common_secure_function(p.oid::pg_catalog.regprocedure)
  FROM pg_catalog.pg_proc p
 WHERE p.pronamespace = 'public'::pg_catalog.regnamespace
   AND p.proname IN (
        'llm_common_shut_out', 'llm_common_secure_table', 'llm_common_secure_function', 'llm_common_table_shapes',
        'llm_common_table_kind', 'llm_common_note', 'llm_common_put_aside', 'llm_common_take_over',
        'llm_common_uid_as_text', 'llm_common_drop_old_functions');

-- Which files `llm-common migrate` has applied; the checksum is the SHA-256 of the file, in hex.
CREATE TABLE IF NOT EXISTS public.llm_common_migrations (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);

SELECT public.llm_common_secure_table('public.llm_common_migrations');

NOTIFY pgrst, 'reload schema';
COMMIT;
