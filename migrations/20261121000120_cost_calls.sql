-- The ledger as a client sees it: reserve, extend, settle or release; expire; record what was paid elsewhere.

-- call:   {project, kind, provider, model, bound_nano}, if known {id, step, run_id, user_id, tags, idempotency_key}
-- limits: [{scope, window, limit_nano, alert_threshold}], scopes as in cost_scopes
-- Returns {reservation_id, spent_today_nano, alerts}; LC001 if a limit does not allow it, and then nothing changed.
-- Reserving again with the id of a live reservation returns that one, so an answer lost on the way does no harm. A key
-- is good for one call only: what the second call cost would otherwise go unrecorded.
CREATE OR REPLACE FUNCTION public.reserve_cost(
    call jsonb, limits jsonb DEFAULT '[]', hold_seconds double precision DEFAULT 900
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET enable_seqscan = off AS $$
DECLARE
    at   timestamptz := pg_catalog.clock_timestamp();
    held public.cost_reservations := pg_catalog.jsonb_populate_record(NULL::public.cost_reservations, call);
    dead public.cost_reservations;
    fit  record;
    alerts jsonb := '[]';
BEGIN
    held.id := coalesce(held.id, pg_catalog.gen_random_uuid());
    held.tags := coalesce(held.tags, '{}');
    held.scopes := public.cost_scopes(held.user_id, held.model, held.run_id, held.tags);
    held.limits := limits;
    PERFORM public.cost_reservation_check(held, hold_seconds);
    held.hold := pg_catalog.make_interval(secs => hold_seconds);
    held.day := public.cost_day(held.project, at);
    held.reserved_at := at;
    held.expires_at := at + held.hold;
    INSERT INTO public.cost_reservations SELECT (held).* ON CONFLICT DO NOTHING;
    IF NOT FOUND AND EXISTS (SELECT FROM public.cost_reservations r WHERE r.id = held.id) THEN
        RETURN pg_catalog.jsonb_build_object(
            'reservation_id', held.id, 'spent_today_nano', public.cost_spent_today(held.project), 'alerts', alerts);
    ELSIF NOT FOUND THEN
        PERFORM public.cost_key_used(held.project, held.idempotency_key);
    END IF;

    PERFORM public.cost_gate(held.project);
    IF held.idempotency_key IS NOT NULL AND EXISTS (
        SELECT FROM public.cost_tracking c
        WHERE c.project = held.project AND c.idempotency_key = held.idempotency_key
    ) THEN
        PERFORM public.cost_key_used(held.project, held.idempotency_key);
    END IF;
    -- A few at a time: nobody has to run a sweeper, and no call pays for many.
    FOR dead IN
        SELECT * FROM public.cost_reservations r WHERE r.project = held.project AND r.expires_at < at
        ORDER BY r.expires_at LIMIT 3 FOR UPDATE SKIP LOCKED
    LOOP
        alerts := alerts || public.cost_expire(dead);
    END LOOP;
    PERFORM public.budget_move(held.project, held.day, held.scopes, held.bound_nano, 0, 0);
    fit := public.budget_fit(held, held.bound_nano);
    IF fit.limits_changed THEN
        -- A new limit may be nearly spent already.
        alerts := alerts || public.budget_alerts(held.project, held.day, limits);
    END IF;
    RETURN pg_catalog.jsonb_build_object(
        'reservation_id', held.id, 'spent_today_nano', fit.spent_nano, 'alerts', alerts);
END $$;

CREATE OR REPLACE FUNCTION public.cost_key_used(project text, key text) RETURNS void
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = pg_catalog.format(
        'idempotency key %L was already used in project %s, so nothing was reserved or recorded; '
        'a new call needs a new key', key, project);
END $$;

CREATE OR REPLACE FUNCTION public.cost_reservation_check(held public.cost_reservations, hold_seconds double precision)
RETURNS void
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    wrong text := CASE
        WHEN coalesce(held.project, '') = '' THEN 'project is empty'
        WHEN coalesce(held.model, '') = '' THEN 'model is empty'
        WHEN held.provider IS NULL THEN 'provider is missing'
        WHEN coalesce(held.kind, '') NOT IN ('chat', 'embedding', 'search', 'external', 'cache_hit')
            THEN pg_catalog.format('kind %L is none of chat, embedding, search, external, cache_hit', held.kind)
        WHEN held.bound_nano IS NULL OR held.bound_nano NOT BETWEEN 0 AND 999999999999999999
            THEN pg_catalog.format('bound_nano must be from 0 to 999999999999999999, not %L', held.bound_nano)
        WHEN hold_seconds IS NULL OR NOT hold_seconds BETWEEN 0.001 AND 2678400
            THEN pg_catalog.format('hold_seconds must be from 0.001 to 31 days, not %L', hold_seconds)
        WHEN pg_catalog.jsonb_typeof(held.tags) <> 'object' THEN 'tags must be an object'
        WHEN EXISTS (SELECT FROM pg_catalog.jsonb_object_keys(held.tags) k WHERE pg_catalog.strpos(k, '=') > 0)
            THEN 'the name of a tag must not have = in it'
        WHEN EXISTS (
            SELECT FROM pg_catalog.jsonb_to_recordset(held.limits) l(scope text, "window" text, limit_nano bigint)
            WHERE (l.scope = ANY (held.scopes) AND l."window" IN ('day', 'month', 'total') AND l.limit_nano >= 0)
                IS NOT TRUE
        ) THEN pg_catalog.format(
            'limits must be of scopes that the call has, of day, month or total, and not negative: %s', held.limits)
    END;
BEGIN
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = 'cannot reserve: ' || wrong;
    END IF;
END $$;

-- Makes a reservation larger, and lets its hold begin anew. With another model, what is set aside counts for that one's
-- budgets as well: a call has one row, and the model that answers at last is the one it names. `limits` as in
-- reserve_cost; only those of the new model are taken. Checks nothing.
CREATE OR REPLACE FUNCTION public.cost_grow(
    before public.cost_reservations, more_nano bigint, of_extension uuid, of_model text, of_provider text, limits jsonb
) RETURNS public.cost_reservations
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    held  public.cost_reservations := before;
    scope text := 'model:' || of_model;
BEGIN
    held.bound_nano := before.bound_nano + more_nano;
    held.extension := of_extension;
    held.expires_at := GREATEST(before.expires_at, pg_catalog.clock_timestamp() + before.hold);
    held.model := coalesce(of_model, before.model);
    held.provider := coalesce(of_provider, before.provider);
    IF NOT scope = ANY (before.scopes) THEN
        held.scopes := before.scopes || scope;
        held.limits := before.limits || (
            SELECT coalesce(pg_catalog.jsonb_agg(l), '[]')
            FROM pg_catalog.jsonb_array_elements(cost_grow.limits) l WHERE l ->> 'scope' = scope);
    END IF;
    UPDATE public.cost_reservations r
    SET (bound_nano, extension, expires_at, model, provider, scopes, limits)
        = (held.bound_nano, held.extension, held.expires_at, held.model, held.provider, held.scopes, held.limits)
    WHERE r.id = held.id;
    PERFORM public.cost_gate(held.project);
    PERFORM public.budget_move(held.project, held.day, before.scopes, more_nano, 0, 0);
    IF held.scopes <> before.scopes THEN
        PERFORM public.budget_move(held.project, held.day, ARRAY[scope], held.bound_nano, 0, 0);
    END IF;
    RETURN held;
END $$;

-- Sets more_nano more aside. The same extension_id twice in a row counts once. With a model the call goes to that one
-- from now on, and all that is set aside must fit its `limits` (as in reserve_cost) too. Returns {spent_today_nano}.
CREATE OR REPLACE FUNCTION public.extend_cost(
    reservation_id uuid, more_nano bigint, extension_id uuid,
    model text DEFAULT NULL, provider text DEFAULT NULL, limits jsonb DEFAULT '[]'
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET enable_seqscan = off AS $$
DECLARE
    before public.cost_reservations;
    held   public.cost_reservations;
BEGIN
    IF more_nano IS NULL OR NOT more_nano BETWEEN 0 AND 999999999999999999 THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002', MESSAGE = pg_catalog.format(
            'more_nano must be from 0 to 999999999999999999 nano-dollars, not %L', more_nano);
    END IF;
    SELECT * INTO before FROM public.cost_reservations r WHERE r.id = reservation_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LC003', MESSAGE = pg_catalog.format(
            'reservation %s cannot be extended: it was settled, released, or expired and was charged', reservation_id);
    END IF;
    IF before.extension IS DISTINCT FROM extension_id THEN
        held := public.cost_grow(
            before, more_nano, extension_id, extend_cost.model, extend_cost.provider, extend_cost.limits);
        PERFORM public.budget_fit(before, more_nano);
        IF held.scopes <> before.scopes THEN
            -- To the budgets of the new model, all of it is new.
            held.limits := pg_catalog.jsonb_path_query_array(
                held.limits, '$[*] ? (@.scope == $model)',
                pg_catalog.jsonb_build_object('model', 'model:' || extend_cost.model));
            PERFORM public.budget_fit(held, held.bound_nano);
        END IF;
    END IF;
    RETURN pg_catalog.jsonb_build_object('spent_today_nano', public.cost_spent_today(before.project));
END $$;

-- Takes in a reservation that was made while this database could not be reached: call, limits and hold_seconds as in
-- reserve_cost, and when it was made. It is never refused, for the call was sent. Again changes nothing, or makes it
-- larger where bound_nano or the model grew since; a call that is in cost_tracking is known, save that one which was
-- charged at a smaller bound when it expired is charged at this one. A key that another call has is left out.
-- Returns {adopted, spent_today_nano, alerts}.
CREATE OR REPLACE FUNCTION public.adopt_cost(
    call jsonb, limits jsonb, hold_seconds double precision, reserved_at timestamptz
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET enable_seqscan = off AS $$
DECLARE
    held     public.cost_reservations := pg_catalog.jsonb_populate_record(NULL::public.cost_reservations, call);
    before   public.cost_reservations;
    known    public.cost_tracking;
    paid     public.cost_tracking;
    inserted boolean;
BEGIN
    held.tags := coalesce(held.tags, '{}');
    held.scopes := public.cost_scopes(held.user_id, held.model, held.run_id, held.tags);
    held.limits := limits;
    PERFORM public.cost_reservation_check(held, hold_seconds);
    held.hold := pg_catalog.make_interval(secs => hold_seconds);
    held.day := public.cost_day(held.project, adopt_cost.reserved_at);
    held.reserved_at := adopt_cost.reserved_at;
    held.expires_at := held.reserved_at + held.hold;
    INSERT INTO public.cost_reservations SELECT (held).* ON CONFLICT DO NOTHING;
    inserted := FOUND;
    IF NOT inserted AND NOT EXISTS (SELECT FROM public.cost_reservations r WHERE r.id = held.id) THEN
        held.idempotency_key := NULL;
        INSERT INTO public.cost_reservations SELECT (held).* ON CONFLICT DO NOTHING;
        inserted := FOUND;
    END IF;
    -- Looked at last: whoever settles it meanwhile writes this row before the reservation's id is free again.
    SELECT * INTO known FROM public.cost_tracking c WHERE c.id = held.id FOR UPDATE;
    IF FOUND THEN
        DELETE FROM public.cost_reservations r WHERE r.id = held.id AND inserted;
        PERFORM public.cost_gate(held.project);
        IF known.status = 'expired' AND public.cost_nano(known.cost_usd) < held.bound_nano THEN
            paid := known;
            paid.cost_usd := held.bound_nano * 0.000000001;
            paid.bound_usd := paid.cost_usd;
            UPDATE public.cost_tracking c SET (cost_usd, bound_usd) = (paid.cost_usd, paid.bound_usd)
            WHERE c.id = held.id;
            PERFORM public.cost_count(known, -1);
            PERFORM public.cost_count(paid, 1);
        END IF;
    ELSIF inserted THEN
        PERFORM public.cost_gate(held.project);
        UPDATE public.cost_reservations r SET idempotency_key = NULL
        WHERE r.id = held.id AND EXISTS (
            SELECT FROM public.cost_tracking c
            WHERE c.project = held.project AND c.idempotency_key = held.idempotency_key);
        PERFORM public.budget_move(held.project, held.day, held.scopes, held.bound_nano, 0, 0);
        PERFORM public.budget_open(held.project, held.day, limits);
    ELSE
        SELECT * INTO before FROM public.cost_reservations r WHERE r.id = held.id FOR UPDATE;
        IF FOUND THEN
            before := public.cost_grow(
                before, GREATEST(held.bound_nano - before.bound_nano, 0), before.extension, held.model, held.provider,
                limits);
            PERFORM public.budget_open(before.project, before.day, before.limits);
        END IF;
    END IF;
    RETURN pg_catalog.jsonb_build_object(
        'adopted', inserted AND known.id IS NULL, 'spent_today_nano', public.cost_spent_today(held.project),
        'alerts', public.budget_alerts(held.project, held.day, limits));
END $$;

-- outcome: {cost_nano, price_source, status} and what else is known: model, provider, model_answered, latency_ms,
-- attempts, the tokens.
-- Returns {settled, spent_today_nano, alerts}; settled is false when the truth was known already.
CREATE OR REPLACE FUNCTION public.settle_cost(reservation_id uuid, outcome jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET enable_seqscan = off AS $$
DECLARE
    held public.cost_reservations;
    paid public.cost_tracking;
    known public.cost_tracking;
    paid_scopes text[];
    freed bigint;
BEGIN
    IF outcome ->> 'status' = 'expired' THEN
        RAISE EXCEPTION USING ERRCODE = 'LC002',
            MESSAGE = 'a settlement cannot have status expired; use ok, failed, cancelled or cut';
    END IF;
    DELETE FROM public.cost_reservations r WHERE r.id = reservation_id RETURNING * INTO held;
    IF FOUND THEN
        paid := public.cost_paid(public.cost_of_reservation(held), outcome);
        INSERT INTO public.cost_tracking SELECT (paid).*;
        paid_scopes := public.cost_scopes(paid.user_id, paid.model, paid.run_id, paid.tags);
        PERFORM public.cost_gate(held.project);
        freed := held.bound_nano;
        IF paid_scopes <> held.scopes THEN
            -- Another model was paid than the one that the money was set aside for.
            PERFORM public.budget_move(held.project, held.day, held.scopes, -freed, 0, 0);
            freed := 0;
        END IF;
        PERFORM public.budget_move(
            held.project, held.day, paid_scopes, -freed, public.cost_nano(paid.cost_usd), public.cost_over(paid));
        PERFORM public.cost_rollup(paid, 1);
        RETURN pg_catalog.jsonb_build_object(
            'settled', true, 'spent_today_nano', public.cost_spent_today(held.project),
            'alerts', public.budget_alerts(held.project, held.day, held.limits));
    END IF;

    SELECT * INTO known FROM public.cost_tracking c WHERE c.id = reservation_id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'LC003', MESSAGE = pg_catalog.format(
            'reservation %s is not known: it was released, or never made; log the cost instead', reservation_id);
    END IF;
    IF known.status = 'expired' THEN
        paid := public.cost_paid(known, outcome);
        PERFORM public.cost_gate(known.project);
        -- In place: a rival settlement that waits for this row must find it again.
        UPDATE public.cost_tracking c SET
            (provider, model, model_answered, cost_usd, price_source, status, latency_ms, attempts,
             tokens_used, input_tokens, cache_read_tokens, cache_write_tokens, cache_write_1h_tokens,
             output_tokens, reasoning_tokens)
            = (paid.provider, paid.model, paid.model_answered, paid.cost_usd, paid.price_source, paid.status,
               paid.latency_ms, paid.attempts, paid.tokens_used, paid.input_tokens, paid.cache_read_tokens,
               paid.cache_write_tokens, paid.cache_write_1h_tokens, paid.output_tokens, paid.reasoning_tokens)
        WHERE c.id = reservation_id;
        PERFORM public.cost_count(known, -1);
        PERFORM public.cost_count(paid, 1);
    END IF;
    RETURN pg_catalog.jsonb_build_object(
        'settled', known.status = 'expired', 'spent_today_nano', public.cost_spent_today(known.project),
        'alerts', '[]'::jsonb);
END $$;

-- Nothing was sent: gives the reserve back, also after it expired. Returns whether there was something to give back.
CREATE OR REPLACE FUNCTION public.release_cost(reservation_id uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET enable_seqscan = off AS $$
DECLARE
    held public.cost_reservations;
    charged public.cost_tracking;
BEGIN
    DELETE FROM public.cost_reservations r WHERE r.id = reservation_id RETURNING * INTO held;
    IF FOUND THEN
        PERFORM public.cost_gate(held.project);
        PERFORM public.budget_move(held.project, held.day, held.scopes, -held.bound_nano, 0, 0);
        RETURN true;
    END IF;
    DELETE FROM public.cost_tracking c WHERE c.id = reservation_id AND c.status = 'expired' RETURNING * INTO charged;
    IF FOUND THEN
        PERFORM public.cost_gate(charged.project);
        PERFORM public.cost_count(charged, -1);
        RETURN true;
    END IF;
    RETURN false;
END $$;

-- Charges dead reservations, of one project or of all. Returns {expired, alerts}.
CREATE OR REPLACE FUNCTION public.expire_reservations(max_rows integer DEFAULT 100, project text DEFAULT NULL)
RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET enable_seqscan = off AS $$
DECLARE
    at      timestamptz := pg_catalog.clock_timestamp();
    mine    public.cost_reservations[];
    held    public.cost_reservations;
    alerts  jsonb := '[]';
BEGIN
    mine := ARRAY(
        SELECT r FROM public.cost_reservations r
        WHERE r.expires_at < at
            AND (expire_reservations.project IS NULL OR r.project = expire_reservations.project)
        ORDER BY r.expires_at LIMIT max_rows FOR UPDATE SKIP LOCKED);
    PERFORM public.cost_gate(p.project)
    FROM (
        SELECT DISTINCT m.project, pg_catalog.hashtext(m.project) AS hash FROM pg_catalog.unnest(mine) m ORDER BY hash
    ) p;
    FOREACH held IN ARRAY mine LOOP
        alerts := alerts || public.cost_expire(held);
    END LOOP;
    RETURN pg_catalog.jsonb_build_object('expired', coalesce(pg_catalog.cardinality(mine), 0), 'alerts', alerts);
END $$;

-- A cost without a reservation: paid elsewhere, or a cache hit at 0. cost: {project, model, cost_nano} and any other
-- column of cost_tracking; limits as in reserve_cost, for their alerts only. The same id or key again changes nothing.
-- Returns {recorded, spent_today_nano, alerts}.
CREATE OR REPLACE FUNCTION public.record_cost(cost jsonb, limits jsonb DEFAULT '[]') RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' SET enable_seqscan = off AS $$
DECLARE
    base public.cost_tracking := pg_catalog.jsonb_populate_record(NULL::public.cost_tracking, cost);
    paid public.cost_tracking;
    recorded boolean;
BEGIN
    base.id := coalesce(base.id, pg_catalog.gen_random_uuid());
    base."timestamp" := coalesce(base."timestamp", pg_catalog.clock_timestamp());
    base.day := public.cost_day(base.project, base."timestamp");
    base.bound_usd := NULL;
    base.kind := coalesce(base.kind, 'external');
    base.provider := coalesce(base.provider, '');
    base.price_source := coalesce(base.price_source, 'override');
    base.status := coalesce(base.status, 'ok');
    paid := public.cost_paid(base, cost);
    -- The gate first: whoever charges a dead reservation holds it while writing a row that may have this key.
    PERFORM public.cost_gate(paid.project);
    IF paid.idempotency_key IS NOT NULL AND EXISTS (
        SELECT FROM public.cost_reservations r
        WHERE r.project = paid.project AND r.idempotency_key = paid.idempotency_key
    ) THEN
        PERFORM public.cost_key_used(paid.project, paid.idempotency_key);
    END IF;
    INSERT INTO public.cost_tracking SELECT (paid).* ON CONFLICT DO NOTHING;
    recorded := FOUND;
    IF recorded THEN
        PERFORM public.cost_count(paid, 1);
        PERFORM public.budget_open(paid.project, paid.day, limits);
    END IF;
    RETURN pg_catalog.jsonb_build_object(
        'recorded', recorded, 'spent_today_nano', public.cost_spent_today(paid.project),
        'alerts', public.budget_alerts(paid.project, paid.day, limits));
END $$;

DO $$
DECLARE
    mine regprocedure;
BEGIN
    FOR mine IN
        SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.proname IN (
            'reserve_cost', 'cost_key_used', 'cost_reservation_check', 'cost_grow', 'extend_cost', 'adopt_cost',
            'settle_cost', 'release_cost', 'expire_reservations', 'record_cost')
    LOOP
        PERFORM public.llm_common_secure_function(mine);
    END LOOP;
END $$;

NOTIFY pgrst, 'reload schema';
