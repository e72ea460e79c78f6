-- What the other migrations stand on: whose tables are here, who may touch ours, and what was applied.
--
-- The schema public is shared with the host, so nothing is granted, revoked or secured here beyond the object that is
-- named, and nothing at all is touched while a table of one of our names is somebody else's.
--
-- Every file is one transaction, with `psql -f` too, and may be applied again. `llm-common migrate` leaves the BEGIN and
-- the COMMIT out and applies all files that wait in one transaction.

BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL client_min_messages = warning;
-- A TIMESTAMP of before is read as UTC.
SET LOCAL timezone = 'UTC';

-- Whose tables these are --------------------------------------------------------------------------------------------

-- Each table that the migrations make, and what is found under its name:
--   missing   nothing
--   ours      made by these migrations, or by an earlier version of them
--   earlier   the first schema that hosts have (December 2025); the file of its system converts it and keeps every row
--   foreign   somebody else's; `reason` says by what it was known
--
-- `ours` are columns by which our own are known. `earlier` are the columns of the first schema and the kinds of their
-- types; ! is the primary key, ? may be missing.
CREATE OR REPLACE FUNCTION public.llm_common_tables() RETURNS TABLE (name text, state text, reason text)
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    WITH known (name, ours, earlier) AS (VALUES
        ('llm_common_migrations', 'name checksum applied_at', NULL),
        ('cost_projects', 'project time_zone', NULL),
        ('cost_tracking', 'id project day timestamp kind model cost_usd bound_usd tags',
         'id:uuid! model:text cost_usd:number timestamp:time step:text? tokens_used:number? project:text?'),
        ('cost_reservations', 'id project day bound_nano hold reserved_at expires_at scopes limits', NULL),
        ('budget_windows', 'project scope starts window limit_nano reserved_nano spent_nano over_nano', NULL),
        ('cost_daily', 'day project provider model step calls failed cache_hits tokens cost_nano over_nano', NULL),
        ('cost_daily_users', 'day project user_id calls failed cache_hits tokens cost_nano over_nano', NULL),
        ('cost_alerts', 'project scope starts window threshold limit_nano spent_nano fired_at', NULL),
        ('cost_price_factors', 'provider model factor seen_at', NULL),
        ('web_search_cache', 'cache_key query results cached_at hit_count query_folded provider fresh_until stale_until',
         'cache_key:text! query:text results:json cached_at:time hit_count:number?'),
        ('web_search_leases', 'cache_key query_folded token held_until', NULL),
        ('web_search_stats', 'day provider shard memory_hits db_hits misses errors spent_nano saved_nano', NULL),
        ('search_documents', 'url host title content published stored_at words', NULL),
        ('llm_response_cache', 'cache_key project user_id answer stored_at expires_at', NULL),
        ('llm_response_forgotten', 'project user_id forgotten_at', NULL),
        ('rate_limit_buckets', 'namespace key requests_full_at tokens_full_at', NULL),
        ('rate_limit_slots', 'namespace key permit held_until', NULL),
        ('pipeline_runs', 'id bill_id models status input code_version epoch lease_until attempts run_at',
         'id:uuid! bill_id:text status:text started_at:time jurisdiction:text? research_model:text? generate_model:text? '
         'review_model:text? completed_at:time? analysis_json:json? review_json:json? review_passed:flag? '
         'quality_score:number? error_message:text?'),
        ('pipeline_steps', 'id run_id key position step status output code_version epoch reservation_id',
         'id:uuid! run_id:uuid step:text timestamp:time output:json? model:text?'),
        ('conversations', 'id user_id role content timestamp page words',
         'id:uuid! user_id:owner role:text content:text timestamp:time page:text?'),
        ('conversation_summaries', 'id user_id covers_through summary created_at', NULL),
        ('rollout_flags', 'flag percentage enabled epoch rolled_back_at rollback_reason version updated_at', NULL),
        ('rollout_outcomes', 'id flag epoch arm ok seconds cost_nano shadow compared difference recorded_at', NULL)
    ), wanted AS (
        SELECT k.name, pg_catalog.split_part(w.word, ':', 1) AS attname,
               pg_catalog.rtrim(pg_catalog.split_part(w.word, ':', 2), '!?') AS kind,
               pg_catalog.right(w.word, 1) = '!' AS is_key, pg_catalog.right(w.word, 1) = '?' AS may_be_missing
          FROM known k, pg_catalog.regexp_split_to_table(k.earlier, ' ') AS w (word)
    ), columns AS (
        SELECT c.relname AS name, c.oid AS relid, a.attname, a.attnum,
               pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
               CASE WHEN t.typname IN ('timestamp', 'timestamptz') THEN 'time' WHEN t.typname IN ('json', 'jsonb') THEN 'json'
                    WHEN t.typname = 'uuid' THEN 'uuid' WHEN t.typcategory IN ('S', 'E') THEN 'text'
                    WHEN t.typcategory = 'N' THEN 'number' WHEN t.typcategory = 'B' THEN 'flag' END AS kind,
               a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS must_be_given
          FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
         WHERE c.relnamespace = 'public'::pg_catalog.regnamespace
    ), faults AS (
        SELECT w.name, pg_catalog.format('it has no column %s', w.attname) AS fault
          FROM wanted w LEFT JOIN columns c ON c.name = w.name AND c.attname = w.attname
         WHERE c.attname IS NULL AND NOT w.may_be_missing
        UNION ALL
        SELECT w.name, pg_catalog.format('its column %s is of type %s', w.attname, c.type)
          FROM wanted w JOIN columns c ON c.name = w.name AND c.attname = w.attname
         WHERE (c.kind = w.kind OR w.kind = 'owner' AND c.kind IN ('text', 'uuid', 'number')) IS NOT TRUE
        UNION ALL
        SELECT w.name, pg_catalog.format('its primary key is not %s', w.attname)
          FROM wanted w JOIN columns c ON c.name = w.name AND c.attname = w.attname
         WHERE w.is_key AND NOT EXISTS (
               SELECT FROM pg_catalog.pg_constraint k
                WHERE k.conrelid = c.relid AND k.contype = 'p' AND k.conkey = ARRAY[c.attnum])
        UNION ALL
        SELECT c.name, pg_catalog.format('its column %s must be given by whoever writes', c.attname)
          FROM columns c JOIN known k ON k.name = c.name AND k.earlier IS NOT NULL
         WHERE c.must_be_given AND NOT EXISTS (SELECT FROM wanted w WHERE w.name = c.name AND w.attname = c.attname)
        UNION ALL
        SELECT w.name, pg_catalog.format('its column %s, which becomes text, refers to %s; drop the foreign key %I first',
                                         w.attname, f.confrelid::pg_catalog.regclass, f.conname)
          FROM wanted w JOIN columns c ON c.name = w.name AND c.attname = w.attname
          JOIN pg_catalog.pg_constraint f ON f.conrelid = c.relid AND f.contype = 'f' AND c.attnum = ANY (f.conkey)
         WHERE w.kind = 'owner' AND c.kind <> 'text'
    )
    SELECT k.name,
           CASE WHEN r.oid IS NULL THEN 'missing' WHEN r.relkind <> 'r' THEN 'foreign' WHEN own.has_all THEN 'ours'
                WHEN k.earlier IS NOT NULL AND fault.first IS NULL THEN 'earlier' ELSE 'foreign' END,
           CASE WHEN r.relkind <> 'r' THEN 'it is no ordinary table'
                WHEN NOT own.has_all THEN coalesce(fault.first, pg_catalog.format('it has no column %s', own.first_missing)) END
      FROM known k
      LEFT JOIN pg_catalog.pg_class r ON r.relname = k.name AND r.relnamespace = 'public'::pg_catalog.regnamespace
      CROSS JOIN LATERAL (
           SELECT pg_catalog.count(c.attname) = pg_catalog.count(*) AS has_all,
                  pg_catalog.min(o.attname) FILTER (WHERE c.attname IS NULL) AS first_missing
             FROM pg_catalog.regexp_split_to_table(k.ours, ' ') AS o (attname)
             LEFT JOIN columns c ON c.name = k.name AND c.attname = o.attname) own
      CROSS JOIN LATERAL (SELECT pg_catalog.min(f.fault) AS first FROM faults f
                           WHERE f.name = k.name AND k.earlier IS NOT NULL) fault
$$;

-- Stops the migration where a table is somebody else's.
CREATE OR REPLACE FUNCTION public.llm_common_look_first() RETURNS void
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    foreigners text := (
        SELECT pg_catalog.string_agg(pg_catalog.format('public.%s is not ours: %s', t.name, t.reason), '; ' ORDER BY t.name)
          FROM public.llm_common_tables() t WHERE t.state = 'foreign');
BEGIN
    IF foreigners IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LC010', MESSAGE = foreigners
            || '. Nothing was changed. Rename it (ALTER TABLE ... RENAME TO ...), or use a database where the name is free';
    END IF;
END $$;

SELECT public.llm_common_look_first();

-- What is found becomes ours ----------------------------------------------------------------------------------------

-- Drops the views on a table, and the views on those, and returns the statements that make them again as they were, with
-- owner, grants, options, comment and indexes.
CREATE OR REPLACE FUNCTION public.llm_common_take_views(target regclass) RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    remake text[] := '{}';
    found  record;
BEGIN
    FOR found IN
        WITH RECURSIVE above (oid, depth) AS (
            SELECT r.ev_class, 1 FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
             WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refobjid = target AND r.ev_class <> target
            UNION
            SELECT r.ev_class, a.depth + 1 FROM above a
              JOIN pg_catalog.pg_depend d ON d.refobjid = a.oid AND d.classid = 'pg_catalog.pg_rewrite'::regclass
              JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND r.ev_class <> a.oid
        )
        SELECT c.oid, c.oid::regclass::text AS name, c.relacl, c.relowner,
               CASE c.relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END AS kind,
               ' WITH (' || pg_catalog.array_to_string(c.reloptions, ', ') || ')' AS options,
               pg_catalog.rtrim(pg_catalog.pg_get_viewdef(c.oid), ';') AS definition,
               pg_catalog.obj_description(c.oid, 'pg_class') AS comment
          FROM above a JOIN pg_catalog.pg_class c ON c.oid = a.oid
         GROUP BY c.oid ORDER BY max(a.depth) DESC
    LOOP
        remake := pg_catalog.format('CREATE %s %s%s AS %s', found.kind, found.name, found.options, found.definition)
            || ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid) FROM pg_catalog.pg_index i
                      WHERE i.indrelid = found.oid)
            || ARRAY(
                SELECT pg_catalog.format('REVOKE ALL ON %s FROM %s', found.name, public.llm_common_role(g.grantee))
                  FROM pg_catalog.pg_default_acl d, pg_catalog.aclexplode(d.defaclacl) g
                 WHERE d.defaclobjtype = 'r' AND d.defaclrole = CURRENT_USER::regrole AND g.grantee <> d.defaclrole)
            || ARRAY(
                SELECT pg_catalog.format('GRANT %s ON %s TO %s%s', g.privilege_type, found.name,
                           public.llm_common_role(g.grantee), CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' END)
                  FROM pg_catalog.aclexplode(found.relacl) g WHERE g.grantee <> found.relowner)
            || pg_catalog.format('COMMENT ON %s %s IS %L', found.kind, found.name, found.comment)
            || pg_catalog.format('ALTER %s %s OWNER TO %s', found.kind, found.name, found.relowner::regrole)
            || remake;
        EXECUTE pg_catalog.format('DROP %s %s', found.kind, found.name);
    END LOOP;
    RETURN remake;
END $$;

-- Drops the row-level security policies that name columns of a table, and returns the statements that make them again.
CREATE OR REPLACE FUNCTION public.llm_common_take_policies(target regclass) RETURNS text[]
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    remake text[] := '{}';
    found  record;
BEGIN
    FOR found IN
        SELECT p.polname, p.polrelid::regclass AS on_table,
               pg_catalog.format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname, p.polrelid::regclass,
                   CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                   CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                                 WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                   (SELECT pg_catalog.string_agg(public.llm_common_role(r), ', ') FROM pg_catalog.unnest(p.polroles) r),
                   ' USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')',
                   ' WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')') AS definition
          FROM pg_catalog.pg_policy p
         WHERE EXISTS (SELECT FROM pg_catalog.pg_depend d
                        WHERE d.objid = p.oid AND d.classid = 'pg_catalog.pg_policy'::regclass
                              AND d.refobjid = target AND d.refobjsubid > 0)
    LOOP
        EXECUTE pg_catalog.format('DROP POLICY %I ON %s', found.polname, found.on_table);
        remake := remake || found.definition;
    END LOOP;
    RETURN remake;
END $$;

-- A role as SQL names it; 0 is PUBLIC.
CREATE OR REPLACE FUNCTION public.llm_common_role(role oid) RETURNS text
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE role::regrole::text END
$$;

-- Who reaches a table by a grant alone, because row-level security is off: those whom the host chose, or (`chosen` false)
-- the API roles with all rights, TRUNCATE among them, which old Supabase projects gave on each new table.
CREATE OR REPLACE FUNCTION public.llm_common_reachers(target regclass, chosen boolean) RETURNS text
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.string_agg(r.name, ', ' ORDER BY r.name) FROM (
        SELECT public.llm_common_role(g.grantee) AS name, pg_catalog.bool_or(g.privilege_type = 'TRUNCATE') AS has_all
          FROM pg_catalog.pg_class c
          CROSS JOIN LATERAL (
               SELECT * FROM pg_catalog.aclexplode(c.relacl)
               UNION ALL
               SELECT a.* FROM pg_catalog.pg_attribute f, pg_catalog.aclexplode(f.attacl) a WHERE f.attrelid = c.oid) g
         WHERE c.oid = target AND NOT c.relrowsecurity AND g.grantee <> c.relowner
         GROUP BY g.grantee) r
     WHERE r.name NOT IN ('service_role', 'llm_common_app', 'llm_common_read')
           AND (r.name IN ('anon', 'authenticated') AND r.has_all) <> chosen
$$;

-- Alters a table of the first schema; `changes` is what follows ALTER TABLE. CHECK constraints on the columns `checked`
-- go. Policies and views would be in the way of another type, so they are taken and made again. Row-level security comes
-- on, and whomever the host let reach the rows by a grant alone gets the policy llm_common_as_before, so that nothing is
-- lost; llm_common_close_table() takes both away.
CREATE OR REPLACE FUNCTION public.llm_common_convert(target regclass, checked text[], changes text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    reachers  text := public.llm_common_reachers(target, chosen => true);
    strangers text := public.llm_common_reachers(target, chosen => false);
    remake    text[] := public.llm_common_take_views(target) || public.llm_common_take_policies(target);
    statement text;
BEGIN
    FOR statement IN
        SELECT pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', target, k.conname)
          FROM pg_catalog.pg_constraint k
         WHERE k.conrelid = target AND k.contype = 'c' AND EXISTS (
               SELECT FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = target AND a.attnum = ANY (k.conkey) AND a.attname = ANY (checked))
    LOOP
        EXECUTE statement;
    END LOOP;
    EXECUTE pg_catalog.format('ALTER TABLE %s %s', target, changes);

    -- The operators between text and uuid are in public, and what is made again may need them.
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, public', true);
    FOREACH statement IN ARRAY remake LOOP
        EXECUTE statement;
    END LOOP;
    PERFORM pg_catalog.set_config('search_path', '', true);

    IF strangers IS NOT NULL THEN
        EXECUTE pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s', target, strangers);
    END IF;
    IF reachers IS NOT NULL THEN
        EXECUTE pg_catalog.format(
            'CREATE POLICY llm_common_as_before ON %s TO %s USING (true) WITH CHECK (true)', target, reachers);
    END IF;
END $$;

-- The host's functions that a call of one of ours could mean as well: of the names that the first schema documented, those
-- whose arguments are the first of ours. `arguments` and `result` are as PostgreSQL shows those of ours.
CREATE OR REPLACE FUNCTION public.llm_common_functions_in_the_way() RETURNS TABLE (name text, called regprocedure)
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    WITH ours (name, arguments, result) AS (VALUES
        ('get_daily_cost', 'target_date date, project text', 'TABLE(total_cost numeric)'),
        ('get_monthly_cost', 'target_year integer, target_month integer, project text', 'TABLE(total_cost numeric)'),
        ('get_cost_breakdown', 'start_date date, end_date date, group_by text, project text',
         'TABLE(group_key text, cost_usd numeric, calls bigint, failed bigint, cache_hits bigint, tokens bigint)'),
        ('compare_models', 'start_date date, end_date date, step text',
         'TABLE(model text, runs bigint, pass_rate numeric, avg_quality numeric, cost_per_run numeric, '
         'tokens_per_run numeric, p50_latency_ms bigint, p95_latency_ms bigint)'),
        ('get_cache_stats', '', 'jsonb'),
        ('cleanup_search_cache', '', 'integer'),
        ('cleanup_conversations', 'days integer', 'integer')
    ), typed AS (
        SELECT o.*, ARRAY(SELECT pg_catalog.split_part(a.word, ' ', 2)::regtype::oid
                            FROM pg_catalog.regexp_split_to_table(o.arguments, ', ') WITH ORDINALITY AS a (word, n)
                           WHERE a.word <> '' ORDER BY a.n) AS types
          FROM ours o
    )
    SELECT t.name, p.oid::regprocedure
      FROM typed t JOIN pg_catalog.pg_proc p ON p.proname = t.name AND p.pronamespace = 'public'::regnamespace
     WHERE ARRAY(SELECT a FROM pg_catalog.unnest(p.proargtypes) a) = t.types[1:p.pronargs]
           AND (pg_catalog.pg_get_function_identity_arguments(p.oid), pg_catalog.pg_get_function_result(p.oid))
               IS DISTINCT FROM (t.arguments, t.result)
$$;

CREATE OR REPLACE FUNCTION public.llm_common_make_room(VARIADIC names text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    found regprocedure;
BEGIN
    FOR found IN SELECT f.called FROM public.llm_common_functions_in_the_way() f WHERE f.name = ANY (names) LOOP
        EXECUTE pg_catalog.format('DROP ROUTINE %s', found);
    END LOOP;
END $$;

-- A CHECK constraint, where there is none of this name yet. What is there already is not looked at: another version of
-- ours, or the host, wrote it under other rules.
CREATE OR REPLACE FUNCTION public.llm_common_constrain(target regclass, constraint_name text, condition text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid = target AND c.conname = constraint_name) THEN
        EXECUTE pg_catalog.format(
            'ALTER TABLE %s ADD CONSTRAINT %I CHECK (%s) NOT VALID', target, constraint_name, condition);
    END IF;
END $$;

-- Who may touch what is ours -----------------------------------------------------------------------------------------

-- Group roles for hosts that do not connect as the owner: GRANT llm_common_app TO my_backend. The app does all that
-- llm_common does but migrate; the reader sees tables and reports, without what people and models said.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['llm_common_app', 'llm_common_read'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = wanted) THEN
            BEGIN
                EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL;  -- by a migration of another database just now
                WHEN insufficient_privilege THEN
                    RAISE WARNING 'role % was not made, because % may not make roles; the owner and service_role work without',
                        wanted, CURRENT_USER;
            END;
        END IF;
    END LOOP;
END $$;

-- The API roles that exist here and must not reach what is ours. PUBLIC is every role, also those of the future.
CREATE OR REPLACE FUNCTION public.llm_common_shut_out() RETURNS text
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.concat_ws(', ', 'PUBLIC', pg_catalog.string_agg(pg_catalog.quote_ident(r.rolname), ', '))
      FROM pg_catalog.pg_roles r
     WHERE r.rolname IN ('anon', 'authenticated')
$$;

-- Those of the roles that may use what is ours that exist here.
CREATE OR REPLACE FUNCTION public.llm_common_let_in() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT r.rolname::text FROM pg_catalog.pg_roles r
     WHERE r.rolname IN ('service_role', 'llm_common_app', 'llm_common_read') ORDER BY 1
$$;

DROP FUNCTION IF EXISTS public.llm_common_secure_table(regclass);

-- Row-level security on; the owner, service_role and the group roles get through, the reader not to the columns `hidden`.
-- Where a policy of the host's stands on the table, its grants are the host's business.
CREATE OR REPLACE FUNCTION public.llm_common_secure_table(target regclass, hidden text[] DEFAULT '{}') RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    wanted   text;
    policy   text;
    rights   text;
    sequence regclass;
BEGIN
    -- Looked at first, because each ALTER waits for everybody who uses the table.
    IF NOT (SELECT c.relrowsecurity FROM pg_catalog.pg_class c WHERE c.oid = target) THEN
        EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', target);
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_policy p
         WHERE p.polrelid = target
               AND p.polname NOT IN ('llm_common_service_role', 'llm_common_app', 'llm_common_read')
    ) THEN
        EXECUTE pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s', target, public.llm_common_shut_out());
    END IF;
    FOR wanted IN SELECT * FROM public.llm_common_let_in() LOOP
        rights := CASE
            WHEN wanted = 'llm_common_read' AND hidden = '{}' THEN 'SELECT'
            WHEN wanted = 'llm_common_read' THEN (
                SELECT pg_catalog.format('SELECT (%s)', pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', '))
                  FROM pg_catalog.pg_attribute a
                 WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (hidden))
            WHEN wanted = 'llm_common_app' AND target = 'public.llm_common_migrations'::regclass THEN 'SELECT'
            ELSE 'SELECT, INSERT, UPDATE, DELETE' END;
        EXECUTE pg_catalog.format('GRANT %s ON TABLE %s TO %I', rights, target, wanted);
        policy := CASE wanted WHEN 'service_role' THEN 'llm_common_service_role' ELSE wanted END;
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = target AND p.polname = policy) THEN
            EXECUTE pg_catalog.format('CREATE POLICY %I ON %s FOR %s TO %I USING (true)%s', policy, target,
                CASE wanted WHEN 'llm_common_read' THEN 'SELECT' ELSE 'ALL' END, wanted,
                CASE WHEN wanted <> 'llm_common_read' THEN ' WITH CHECK (true)' END);
        END IF;
    END LOOP;

    -- Columns that number themselves (identity, serial) have a sequence, with rights of its own.
    FOR sequence IN
        SELECT d.objid::regclass FROM pg_catalog.pg_depend d
          JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
         WHERE d.refobjid = target AND d.deptype IN ('a', 'i')
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON SEQUENCE %s FROM %s', sequence, public.llm_common_shut_out());
        FOR wanted IN SELECT l FROM public.llm_common_let_in() l WHERE l <> 'llm_common_read' LOOP
            EXECUTE pg_catalog.format('GRANT USAGE ON SEQUENCE %s TO %I', sequence, wanted);
        END LOOP;
    END LOOP;
END $$;

-- Takes away what llm_common_convert() left as it was: from now on only our roles reach the table.
CREATE OR REPLACE FUNCTION public.llm_common_close_table(target regclass) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    EXECUTE pg_catalog.format('DROP POLICY IF EXISTS llm_common_as_before ON %s', target);
    EXECUTE pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s', target, public.llm_common_shut_out());
END $$;

-- Only the owner, service_role and the app may call them, and the reader those that change nothing. Triggers need no
-- caller's right.
CREATE OR REPLACE FUNCTION public.llm_common_secure_functions(names text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    found  record;
    wanted text;
BEGIN
    FOR found IN
        SELECT p.oid::regprocedure AS called, p.prorettype = 'pg_catalog.trigger'::regtype AS is_trigger,
               p.provolatile <> 'v' AS only_reads
          FROM pg_catalog.pg_proc p
         WHERE p.pronamespace = 'public'::regnamespace AND p.proname = ANY (names)
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM %s', found.called, public.llm_common_shut_out());
        FOR wanted IN
            SELECT l FROM public.llm_common_let_in() l
             WHERE NOT found.is_trigger AND (found.only_reads OR l <> 'llm_common_read')
        LOOP
            EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO %I', found.called, wanted);
        END LOOP;
    END LOOP;
END $$;

DO $$
DECLARE
    wanted text;
BEGIN
    FOR wanted IN
        SELECT l FROM public.llm_common_let_in() l
         WHERE l <> 'service_role' AND NOT pg_catalog.has_schema_privilege(l, 'public', 'USAGE')
    LOOP
        EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA public TO %I', wanted);
    END LOOP;
END $$;

-- Each file writes itself down at its end. The checksum is the SHA-256, in hex, of the file without that line.
CREATE TABLE IF NOT EXISTS public.llm_common_migrations (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
SELECT public.llm_common_secure_table('public.llm_common_migrations');

CREATE OR REPLACE FUNCTION public.llm_common_record(file text, sha256 text) RETURNS void
LANGUAGE sql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
    INSERT INTO public.llm_common_migrations (name, checksum) VALUES (file, sha256)
    ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, applied_at = excluded.applied_at
$$;

DROP FUNCTION IF EXISTS public.llm_common_secure_function(regprocedure);
SELECT public.llm_common_secure_functions(ARRAY[
    'llm_common_tables', 'llm_common_look_first', 'llm_common_take_views', 'llm_common_take_policies', 'llm_common_role',
    'llm_common_reachers', 'llm_common_convert', 'llm_common_functions_in_the_way', 'llm_common_make_room',
    'llm_common_constrain', 'llm_common_shut_out', 'llm_common_let_in',
    'llm_common_secure_table', 'llm_common_close_table', 'llm_common_secure_functions', 'llm_common_record']);

NOTIFY pgrst, 'reload schema';
SELECT public.llm_common_record('20261201100000_foundation.sql', '7fbb318c65108f09ed1ffcfb3923769590d5d227be3c2a298bbcb3d508ac6939');
COMMIT;
