-- Rollouts: how many percent get the new path, how both paths fare, and the one-way rollback.
--
-- Outcomes are inserted, never updated, so that recording is no hot row; each flag and arm keeps the newest few
-- thousand. The decision to roll back is taken by the caller from the figures that recording returns; the latch is a
-- compare-and-set on the flag's epoch, so that it closes once, and never for figures from before a reset.

BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SELECT public.llm_common_look_first();

CREATE TABLE IF NOT EXISTS public.rollout_flags (
    flag            text PRIMARY KEY,
    -- NULL: nobody has set it here, so the environment or the code of the host decides.
    percentage      smallint,
    enabled         boolean NOT NULL DEFAULT true,
    -- Counts the resets; outcomes of earlier epochs no longer matter.
    epoch           integer NOT NULL DEFAULT 1,
    rolled_back_at  timestamptz,
    rollback_reason text,
    -- Rises with every change made here, so that a late answer does not bring back what was.
    version         bigint NOT NULL DEFAULT 1,
    updated_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT rollout_flags_percentage_is_one CHECK (percentage BETWEEN 0 AND 100),
    CONSTRAINT rollout_flags_rollback_has_a_reason CHECK ((rolled_back_at IS NULL) = (rollback_reason IS NULL))
);

CREATE TABLE IF NOT EXISTS public.rollout_outcomes (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flag        text NOT NULL,
    epoch       integer NOT NULL,
    arm         text NOT NULL,
    ok          boolean NOT NULL,
    seconds     double precision NOT NULL,
    cost_nano   bigint,
    shadow      boolean NOT NULL DEFAULT false,
    -- Of a shadow run that was compared: NULL, or digests of two results that differ.
    compared    boolean NOT NULL DEFAULT false,
    difference  text,
    recorded_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT rollout_outcomes_arm_is_known CHECK (arm IN ('new', 'old')),
    CONSTRAINT rollout_outcomes_seconds_are_positive CHECK (seconds >= 0 AND seconds < 'infinity'),
    CONSTRAINT rollout_outcomes_cost_is_positive CHECK (cost_nano >= 0)
);
CREATE INDEX IF NOT EXISTS rollout_outcomes_by_arm ON public.rollout_outcomes (flag, arm, id);

SELECT public.llm_common_secure_table('public.rollout_flags');
SELECT public.llm_common_secure_table('public.rollout_outcomes');

-- {"percentage", "enabled", "epoch", "rolled_back_at", "rollback_reason", "version"}; NULL for a flag without a row.
CREATE OR REPLACE FUNCTION public.rollout_get(flag_name text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.jsonb_build_object(
               'percentage', f.percentage, 'enabled', f.enabled, 'epoch', f.epoch,
               'rolled_back_at', f.rolled_back_at, 'rollback_reason', f.rollback_reason, 'version', f.version)
      FROM public.rollout_flags f WHERE f.flag = flag_name
$$;

CREATE OR REPLACE FUNCTION public.rollout_set_percentage(flag_name text, new_percentage integer) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    INSERT INTO public.rollout_flags AS f (flag, percentage) VALUES (flag_name, new_percentage)
    ON CONFLICT (flag) DO UPDATE
        SET percentage = excluded.percentage, version = f.version + 1, updated_at = pg_catalog.clock_timestamp();
    RETURN public.rollout_get(flag_name);
END $$;

CREATE OR REPLACE FUNCTION public.rollout_set_enabled(flag_name text, is_enabled boolean) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    INSERT INTO public.rollout_flags AS f (flag, enabled) VALUES (flag_name, is_enabled)
    ON CONFLICT (flag) DO UPDATE
        SET enabled = excluded.enabled, version = f.version + 1, updated_at = pg_catalog.clock_timestamp();
    RETURN public.rollout_get(flag_name);
END $$;

-- Opens the latch. A new epoch begins, so the outcomes that closed it are not held against the next attempt.
CREATE OR REPLACE FUNCTION public.rollout_reset(flag_name text, new_percentage integer) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    INSERT INTO public.rollout_flags AS f (flag, percentage) VALUES (flag_name, new_percentage)
    ON CONFLICT (flag) DO UPDATE
        SET percentage = excluded.percentage, epoch = f.epoch + 1, rolled_back_at = NULL, rollback_reason = NULL,
            version = f.version + 1, updated_at = pg_catalog.clock_timestamp();
    RETURN public.rollout_get(flag_name);
END $$;

-- Closes the latch: the flag for exactly one caller per epoch, NULL for all others.
CREATE OR REPLACE FUNCTION public.rollout_latch(flag_name text, in_epoch integer, reason text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
BEGIN
    UPDATE public.rollout_flags f
       SET rolled_back_at = pg_catalog.clock_timestamp(), rollback_reason = reason,
           version = f.version + 1, updated_at = pg_catalog.clock_timestamp()
     WHERE f.flag = flag_name AND f.epoch = in_epoch AND f.rolled_back_at IS NULL;
    RETURN CASE WHEN FOUND THEN public.rollout_get(flag_name) END;
END $$;

-- One arm's newest calls of this epoch. Latency is that of the calls that succeeded; `slow` counts those among them
-- that took longer than slow_seconds (NULL: nothing is slow). Costs are in nano-dollars.
-- {"calls", "errors", "succeeded", "p95_seconds", "slow", "priced", "mean_cost_nano", "sd_cost_nano"}
CREATE OR REPLACE FUNCTION public.rollout_arm_stats(
    flag_name text, arm_name text, in_epoch integer, newest integer, max_age_seconds double precision,
    slow_seconds double precision
) RETURNS jsonb
LANGUAGE sql STABLE SECURITY INVOKER SET search_path = '' AS $$
    SELECT pg_catalog.jsonb_build_object(
               'calls', count(*),
               'errors', count(*) FILTER (WHERE NOT o.ok),
               'succeeded', count(*) FILTER (WHERE o.ok),
               'p95_seconds', pg_catalog.percentile_disc(0.95) WITHIN GROUP (ORDER BY o.seconds) FILTER (WHERE o.ok),
               'slow', count(*) FILTER (WHERE o.ok AND o.seconds > slow_seconds),
               'priced', count(o.cost_nano),
               'mean_cost_nano', pg_catalog.avg(o.cost_nano)::double precision,
               'sd_cost_nano', pg_catalog.stddev_samp(o.cost_nano)::double precision)
      FROM (SELECT * FROM public.rollout_outcomes w
             WHERE w.flag = flag_name AND w.arm = arm_name ORDER BY w.id DESC LIMIT newest) AS o
     WHERE o.epoch = in_epoch
       AND o.recorded_at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => max_age_seconds)
$$;

-- {"flag": as rollout_get, "old": stats, "new": stats}. The old arm's P95 times slow_ratio is what counts as slow.
CREATE OR REPLACE FUNCTION public.rollout_report(
    flag_name text, newest integer, max_age_seconds double precision, slow_ratio double precision
) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    flag jsonb := public.rollout_get(flag_name);
    in_epoch integer := coalesce((flag->>'epoch')::integer, 1);
    old_arm jsonb := public.rollout_arm_stats(flag_name, 'old', in_epoch, newest, max_age_seconds, NULL);
    slow_seconds double precision := (old_arm->>'p95_seconds')::double precision * slow_ratio;
BEGIN
    RETURN pg_catalog.jsonb_build_object(
        'flag', flag, 'old', old_arm,
        'new', public.rollout_arm_stats(flag_name, 'new', in_epoch, newest, max_age_seconds, slow_seconds));
END $$;

-- Keeps the newest `keep` outcomes of one flag and arm; at most 1000 go at a time, never waiting for another pruner.
CREATE OR REPLACE FUNCTION public.rollout_prune(flag_name text, arm_name text, keep integer) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    last_to_go bigint;
    deleted integer;
BEGIN
    SELECT w.id INTO last_to_go FROM public.rollout_outcomes w
     WHERE w.flag = flag_name AND w.arm = arm_name ORDER BY w.id DESC OFFSET keep LIMIT 1;
    DELETE FROM public.rollout_outcomes x WHERE x.id = ANY (ARRAY(
        SELECT o.id FROM public.rollout_outcomes o
         WHERE o.flag = flag_name AND o.arm = arm_name AND o.id <= last_to_go
         ORDER BY o.id LIMIT 1000 FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;

-- Stores a batch of outcomes and returns what rollout_report does.
-- outcomes: [{"epoch", "arm", "ok", "seconds", "cost_nano", "shadow", "compared", "difference"}, ...]
CREATE OR REPLACE FUNCTION public.rollout_record(
    flag_name text, outcomes jsonb, newest integer, max_age_seconds double precision, slow_ratio double precision
) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = '' AS $$
DECLARE
    -- Enough for every guardrail window in use, and for people who look at what differed.
    keep integer := greatest(2000, newest);
    first_id bigint;
    last_id bigint;
BEGIN
    -- Looking first: in the usual case the flag's row is only read.
    IF NOT EXISTS (SELECT FROM public.rollout_flags f WHERE f.flag = flag_name) THEN
        INSERT INTO public.rollout_flags (flag) VALUES (flag_name) ON CONFLICT DO NOTHING;
    END IF;
    WITH stored AS (
        INSERT INTO public.rollout_outcomes (flag, epoch, arm, ok, seconds, cost_nano, shadow, compared, difference)
        SELECT flag_name, o.epoch, o.arm, o.ok, o.seconds, o.cost_nano, coalesce(o.shadow, false),
               coalesce(o.compared, false), o.difference
          FROM pg_catalog.jsonb_to_recordset(outcomes) AS o (
               epoch integer, arm text, ok boolean, seconds double precision, cost_nano bigint, shadow boolean,
               compared boolean, difference text)
        RETURNING id
    )
    SELECT min(id), max(id) INTO first_id, last_id FROM stored;
    -- About once in 256 outcomes.
    IF last_id / 256 > (first_id - 1) / 256 THEN
        PERFORM public.rollout_prune(flag_name, 'old', keep), public.rollout_prune(flag_name, 'new', keep);
    END IF;
    RETURN public.rollout_report(flag_name, newest, max_age_seconds, slow_ratio);
END $$;

SELECT public.llm_common_secure_functions(ARRAY[
    'rollout_get', 'rollout_set_percentage', 'rollout_set_enabled', 'rollout_reset', 'rollout_latch',
    'rollout_arm_stats', 'rollout_report', 'rollout_prune', 'rollout_record']);

NOTIFY pgrst, 'reload schema';
SELECT public.llm_common_record('20261201100700_rollout.sql', '62d32d5506049f6144780b32d14722a7f937459af62dd924bf1b7809f1dda486');
COMMIT;
