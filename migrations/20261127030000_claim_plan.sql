-- A claim is planned once for each connection, whatever waits.
--
-- From a long queue it was planned anew each time, because the planner took a plan made for the very moment for the
-- cheaper one. It is the same plan, an index scan that stops at its limit, and making it cost a fifth of the claim.
ALTER FUNCTION public.claim_runs(text, text, integer, double precision) SET plan_cache_mode = force_generic_plan;

NOTIFY pgrst, 'reload schema';
