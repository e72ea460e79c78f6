-- Roles as on Supabase, and a function of each kind for test_rpc_server.py.
CREATE ROLE anon NOLOGIN;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE service_role NOLOGIN BYPASSRLS;
GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
CREATE SCHEMA inner_types;
GRANT USAGE ON SCHEMA inner_types TO service_role;
CREATE TYPE inner_types.mood AS ENUM ('calm', 'cross');
CREATE TYPE public.point2 AS (x int, y int);
CREATE TABLE public.item (id int PRIMARY KEY, parent int REFERENCES public.item DEFERRABLE INITIALLY DEFERRED);
GRANT SELECT, INSERT ON public.item TO service_role;

CREATE FUNCTION public.add_them(a int, b int DEFAULT 10) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE FUNCTION public.price(nano bigint) RETURNS numeric LANGUAGE sql IMMUTABLE AS
  'SELECT (nano / 1e9)::numeric(30, 9)';
CREATE FUNCTION public.same_bigint(n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT n';
CREATE FUNCTION public.same_json(doc jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT doc';
CREATE FUNCTION public.same_plain_json(doc json) RETURNS json LANGUAGE sql IMMUTABLE AS 'SELECT doc';
CREATE FUNCTION public.same_texts(items text[]) RETURNS text[] LANGUAGE sql IMMUTABLE AS 'SELECT items';
CREATE FUNCTION public.same_char(c character) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT c::text';
CREATE FUNCTION public.same_mood(m inner_types.mood) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT m::text';
CREATE FUNCTION public.as_text(v text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT v';
CREATE FUNCTION public.is_sql_null(doc jsonb) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT doc IS NULL';
CREATE FUNCTION public.later(t timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS
  $$SELECT t + interval '1 hour'$$;
CREATE FUNCTION public.point(x int, y int) RETURNS public.point2 LANGUAGE sql IMMUTABLE AS 'SELECT x, y';
CREATE FUNCTION public.split(n int, OUT tens int, OUT ones int) LANGUAGE sql IMMUTABLE AS 'SELECT n / 10, n % 10';
CREATE FUNCTION public.half(OUT answer int, n int) LANGUAGE sql IMMUTABLE AS 'SELECT n / 2';
CREATE FUNCTION public.numbers(n int) RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT generate_series(1, n)';
CREATE FUNCTION public.squares(n int) RETURNS TABLE (root int, square int) LANGUAGE sql STABLE AS
  'SELECT i, i * i FROM generate_series(1, n) AS i';
CREATE FUNCTION public.nothing() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION public."Odd %s ""Name"("a"" %s" int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION public.who() RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_build_object('user', current_user, 'claims', current_setting('request.jwt.claims')::jsonb,
    'read_only', current_setting('transaction_read_only'), 'timeout', current_setting('statement_timeout'))$$;
CREATE FUNCTION public.who_writes() RETURNS text LANGUAGE sql VOLATILE AS
  $$SELECT current_setting('transaction_read_only')$$;
CREATE FUNCTION public.patient() RETURNS text LANGUAGE sql SET statement_timeout = '30s' AS
  $$SELECT pg_sleep(0.2); SELECT 'done'$$;
CREATE FUNCTION public.ask(question text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT question';
CREATE FUNCTION public.ask(question int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT question::text';
CREATE FUNCTION public.fail_with(code text) RETURNS void LANGUAGE plpgsql AS $$
  BEGIN RAISE EXCEPTION 'it failed' USING ERRCODE = code, DETAIL = 'the detail', HINT = 'the hint'; END$$;
CREATE FUNCTION public.fail_plainly() RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'plainly'; END$$;
CREATE FUNCTION public.add_item(id int, parent int DEFAULT NULL, then_fail bool DEFAULT false) RETURNS int
  LANGUAGE plpgsql AS $$
  BEGIN
    INSERT INTO public.item VALUES (add_item.id, add_item.parent);
    IF then_fail THEN RAISE EXCEPTION 'after the insert'; END IF;
    RETURN add_item.id;
  END$$;
CREATE FUNCTION public.add_item_calling_itself_stable(id int) RETURNS int LANGUAGE sql STABLE AS
  'SELECT public.add_item(id)';
CREATE FUNCTION public.add_item_after_lock(id int) RETURNS int LANGUAGE plpgsql AS $$
  BEGIN PERFORM pg_advisory_xact_lock(77); INSERT INTO public.item VALUES (add_item_after_lock.id); RETURN 1; END$$;
CREATE FUNCTION public.wait_for_ever() RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(600)';
CREATE FUNCTION public.end_connection() RETURNS void LANGUAGE sql SECURITY DEFINER AS
  'SELECT pg_terminate_backend(pg_backend_pid())';
CREATE FUNCTION public.secret() RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE EXECUTE ON FUNCTION public.secret() FROM public;
