"""A host's database of the documents' first schema becomes ours in place: each row kept, the host's own SQL as it was.

What no table of ours and none of the documents' can be is the host's: it is named, and nothing is touched.
"""

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from llm_common.cost_tracker import CostTracker
from llm_common.db import cluster, migrate
from llm_common.db.database import Database
from llm_common.exceptions import BudgetExceededError, MigrationError, PipelineError
from llm_common.models import PlannedCall
from tests.support.catalog import objects

FOLDER = Path(__file__).parents[3] / "migrations"
FIRST = (Path(__file__).parents[2] / "fixtures" / "first_schema.sql").read_bytes()
TABLES = ("web_search_cache", "cost_tracking", "pipeline_runs", "pipeline_steps", "conversations")
USER, OTHER, RUN = uuid4(), uuid4(), uuid4()

#: With what the columns allow: nulls, an empty text, a quality above 1, amounts that are none.
ROWS = f"""
ALTER TABLE conversations ALTER user_id DROP NOT NULL;
INSERT INTO web_search_cache VALUES ('k', 'Tax rules', '[{{"title": "T"}}]', '2025-12-01 10:00', 3),
    ('k2', 'q', '{{"results": []}}', NULL, NULL);
INSERT INTO cost_tracking (model, step, cost_usd, tokens_used, timestamp, project) VALUES
    ('gpt-4o', 'generate', 0.123456, 700, '2025-12-01 23:30', 'affordabot'),
    ('gpt-4o', NULL, 1, NULL, '2025-12-01 00:10', NULL), ('', 's', -0.5, -3, '2025-12-01', 'affordabot'),
    ('m', 's', 'NaN', 0, NULL, '');
INSERT INTO pipeline_runs (id, bill_id, jurisdiction, generate_model, status, started_at, quality_score) VALUES
    ('{RUN}', 'AB-1', 'California', 'gpt-4o', 'running', '2025-12-01', 8.5),
    (gen_random_uuid(), 'AB-2', 'California', NULL, 'completed', '2025-12-02', NULL),
    (gen_random_uuid(), '', '', NULL, NULL, NULL, NULL),
    (gen_random_uuid(), 'AB-3', 'California', NULL, 'running', now() AT TIME ZONE 'UTC', NULL);
INSERT INTO pipeline_steps (run_id, step, model, output) VALUES ('{RUN}', 'generate', 'gpt-4o', '{{"a": 1}}'),
    ('{RUN}', 'generate', 'gpt-4o', NULL), (NULL, NULL, NULL, '[]');
INSERT INTO conversations (user_id, role, content, page, timestamp) VALUES
    ('{USER}', 'assistant', 'Ask your plan.', NULL, '2025-12-01 10:01'),
    ('{USER}', 'user', 'How do I roll over?', 'retirement', '2025-12-01 10:00'),
    ('{OTHER}', NULL, '', NULL, NULL), (NULL, 'system', 'x', NULL, '2025-12-01');
"""
AUTH = f"""CREATE SCHEMA auth;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql AS $$ SELECT '{USER}'::uuid $$;
GRANT USAGE ON SCHEMA auth, public TO authenticated;"""


def execute(dsn: str, *statements: str | bytes, as_role: str | None = None) -> list[tuple]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        if as_role:
            connection.execute(f"SET ROLE {as_role}")
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def counts(dsn: str) -> list[tuple]:
    return execute(dsn, f"SELECT {', '.join(f'(SELECT count(*) FROM {table})' for table in TABLES)}")


async def migrated(dsn: str) -> None:
    async with Database.connect(dsn) as db:
        await db.migrate()


def differences(dsn: str, new: str) -> dict[str, set]:
    """How a database differs from a new one, apart from the host's indexes and its default for the project."""
    made, wanted = objects(dsn), objects(new)
    ours = {
        kind: {row for row in made[kind] if " idx_" not in str(row) and not str(row[0]).startswith("idx_")}
        for kind in made
    }
    ours["columns"] = {
        (*row[:4], "'default'::text", *row[5:]) if "affordabot" in str(row) else row for row in made["columns"]
    }
    return {kind: ours[kind] ^ wanted[kind] for kind in ours if ours[kind] != wanted[kind]}


async def test_every_row_is_there_and_counted(any_empty_dsn: str, dsn: str) -> None:
    """All five tables with odd rows: the ledger knows the old costs by their days, and proves itself."""
    execute(any_empty_dsn, FIRST, ROWS)
    before = counts(any_empty_dsn)
    costs = execute(any_empty_dsn, "SELECT id, model, step, cost_usd, project FROM cost_tracking ORDER BY 1")
    await migrated(any_empty_dsn)
    assert counts(any_empty_dsn) == before
    after = execute(any_empty_dsn, "SELECT id, model, step, cost_usd, project FROM cost_tracking ORDER BY 1")
    assert str(after) == str([(*row[:4], row[4] if row[4] is not None else "default") for row in map(_nine, costs)])
    async with Database.connect(any_empty_dsn) as db:
        tracker = CostTracker(db, project="affordabot")
        assert await tracker.get_daily_cost("2025-12-01") == Decimal("0.123456")
    for project in ("affordabot", "default", ""):
        assert execute(any_empty_dsn, f"SELECT * FROM check_cost_ledger('{project}')") == []
    assert execute(any_empty_dsn, "SELECT total_cost FROM get_daily_cost('2025-12-01')") == [(Decimal("1.123456"),)]
    at = execute(any_empty_dsn, "SELECT \"timestamp\" FROM cost_tracking WHERE step = 'generate'")
    assert at == [(datetime(2025, 12, 1, 23, 30, tzinfo=UTC),)]
    if "test_" in any_empty_dsn and "15" not in str(execute(any_empty_dsn, "SHOW server_version")):
        assert differences(any_empty_dsn, dsn) == {}


def _nine(row: tuple) -> tuple:
    return (*row[:3], row[3] if row[3].is_nan() else row[3].quantize(Decimal("0.000000001")), *row[4:])


async def test_runs_and_messages_go_on(empty_dsn: str) -> None:
    """A run that never ended is failed, one that began just now is not; messages are in the order of their time."""
    execute(empty_dsn, FIRST, ROWS)
    await migrated(empty_dsn)
    runs = execute(empty_dsn, "SELECT bill_id, status, quality_score FROM pipeline_runs ORDER BY 1")
    assert runs == [
        ("", "failed", None),
        ("AB-1", "failed", Decimal("8.50")),
        ("AB-2", "completed", None),
        ("AB-3", "running", None),
    ]
    async with Database.connect(empty_dsn) as db:
        context = await db.conversations.context(str(USER), None, 10)
        assert [message.content for message in context.messages] == ["How do I roll over?", "Ask your plan."]
        assert {run.bill_id for run in await db.runs.list()} == {"", "AB-1", "AB-2", "AB-3"}
        with pytest.raises(PipelineError, match="host's own code"):
            await db.runs.resume(str(RUN), worker="w", code_version="c", lease_seconds=1)
        assert len((await db.runs.get(str(RUN))).steps) == 2
        execute(empty_dsn, "UPDATE pipeline_runs SET lease_until = now() - interval '1 s' WHERE bill_id = 'AB-3'")
        assert (await db.runs.sweep()).failed == 1


@pytest.mark.parametrize("table", TABLES)
async def test_each_table_alone_becomes_ours(empty_dsn: str, dsn: str, table: str) -> None:
    """A host that has applied a part of the documents' migration is no worse off."""
    execute(empty_dsn, FIRST, ROWS, *(f"DROP TABLE {other} CASCADE" for other in TABLES if other != table))
    before = execute(empty_dsn, f"SELECT count(*) FROM {table}")
    await migrated(empty_dsn)
    assert execute(empty_dsn, f"SELECT count(*) FROM {table}") == before
    assert differences(empty_dsn, dsn).keys() <= ({"constraints"} if table == "pipeline_steps" else set())


HOSTS_OWN = [
    "INSERT INTO web_search_cache(cache_key, query, results, cached_at, hit_count) VALUES ('k3', 'q', '{}', now(), 0)",
    "INSERT INTO web_search_cache(cache_key, query, results) VALUES ('k3', 'q', '[]') ON CONFLICT (cache_key) "
    "DO UPDATE SET results = excluded.results, cached_at = NOW()",
    "UPDATE web_search_cache SET hit_count = hit_count + 1 WHERE cache_key = 'k3'",
    "INSERT INTO cost_tracking(model, step, cost_usd, tokens_used, project) VALUES ('m', 'generate', 0.5, 10, 'p')",
    "INSERT INTO cost_tracking(model, step, cost_usd, tokens_used, timestamp) VALUES ('m', 's', 0.25, 1, '2025-11-05')",
    "INSERT INTO cost_tracking(model, step, cost_usd, tokens_used, timestamp, project) VALUES "
    "('m', NULL, 0, NULL, NULL, NULL)",
    f"""INSERT INTO pipeline_runs(id, bill_id, jurisdiction, research_model, generate_model, review_model, status)
        VALUES ('{uuid4()}', 'AB-9', 'California', 'a', 'b', 'c', 'running')""",
    "INSERT INTO pipeline_steps(run_id, step, model, output) SELECT id, 'review', 'm', NULL FROM pipeline_runs LIMIT 1",
    "INSERT INTO pipeline_steps(run_id, step, model, output) SELECT id, 'review', 'm', '{}' FROM pipeline_runs LIMIT 1",
    """UPDATE pipeline_runs SET status = 'completed', completed_at = now(), quality_score = 9.5, review_passed = true,
        analysis_json = '{"unsupported": 1, "rounds": "many"}' WHERE bill_id = 'AB-9'""",
    f"INSERT INTO conversations(id, user_id, role, content) VALUES ('{uuid4()}', '{USER}', 'user', 'again')",
    f"INSERT INTO conversations(user_id, role, content, page) VALUES ('{USER}'::uuid, 'assistant', '', NULL)",
    f"SELECT content FROM conversations WHERE user_id = '{USER}'::uuid ORDER BY timestamp DESC LIMIT 20",
    f"SELECT content FROM conversations WHERE '{USER}'::uuid = user_id",
    "SELECT total_cost FROM get_daily_cost('2025-11-05')",
    "SELECT get_daily_cost(CURRENT_DATE)",
    "SELECT * FROM get_monthly_cost(2025, 11)",
    "SELECT cleanup_search_cache(), cleanup_conversations()",
    """SELECT CASE WHEN started_at > now() - INTERVAL '1 day' THEN 'new' ELSE 'old' END, ROUND(AVG(quality_score), 2),
        count(*) FILTER (WHERE status = 'failed') FROM pipeline_runs GROUP BY 1""",
]


@pytest.mark.parametrize("when", ["before", "after", "on a new database"])
async def test_the_hosts_own_sql_works_to_the_letter(any_empty_dsn: str, when: str) -> None:
    """Old code writes beside new code; what it spends is in the budgets and in the reports, on its own day."""
    if when != "on a new database":
        execute(any_empty_dsn, FIRST, ROWS)
    if when != "before":
        await migrated(any_empty_dsn)
    for statement in HOSTS_OWN:
        execute(any_empty_dsn, statement)
    if when != "before":
        assert execute(any_empty_dsn, "SELECT get_monthly_cost(2025, 11)") == [(Decimal("0.25"),)]
        assert execute(any_empty_dsn, "SELECT * FROM check_cost_ledger('p')") == []
        spent = execute(any_empty_dsn, "SELECT cost_nano FROM cost_daily WHERE project = 'p'")
        assert spent == [(500_000_000,)]
        run = execute(any_empty_dsn, "SELECT models, quality_score FROM pipeline_runs WHERE bill_id = 'AB-9'")
        assert run == [({"research": "a", "generate": "b", "review": "c"}, Decimal("9.5"))]
        today = "'2025-01-01', current_date"
        compared = f"SELECT completed, cost_per_run FROM compare_pipelines({today}) WHERE models ? 'review'"
        assert execute(any_empty_dsn, compared) == [(1, None)]


async def test_a_row_of_the_hosts_binds_budgets(dsn: str) -> None:
    """What old code spends beside us is gone from today's budget, whichever role inserts it."""
    async with Database.connect(dsn) as db:
        tracker = CostTracker(db, daily_budget_usd="1.00", project="p")
        call = PlannedCall(kind="chat", provider="x", model="m", bound_nano=300_000_000)
        await tracker.release(await tracker.reserve(call))
        execute(
            dsn,
            "CREATE ROLE backend_of_host",
            "GRANT INSERT ON cost_tracking TO backend_of_host",
            "CREATE POLICY backend ON cost_tracking FOR INSERT TO backend_of_host WITH CHECK (true)",
        )
        spent = "INSERT INTO cost_tracking (model, step, cost_usd, tokens_used, project) VALUES ('m', 's', 0.8, 5, 'p')"
        try:
            execute(dsn, spent, as_role="backend_of_host")
            with pytest.raises(BudgetExceededError):
                await tracker.reserve(call)
            assert (await tracker.get_daily_cost()) == Decimal("0.8")
        finally:
            execute(dsn, "DROP OWNED BY backend_of_host", "DROP ROLE backend_of_host")


FOREIGN = [
    ("CREATE TABLE conversations (id uuid PRIMARY KEY, user_id uuid, title text)", "it has no column content"),
    ("CREATE TABLE conversations (id int, title text, created_at timestamptz)", "it has no column content"),
    ("CREATE TABLE cost_tracking (id int, amount numeric)", "it has no column cost_usd"),
    ("CREATE TABLE budget_windows (name text)", "it has no column limit_nano"),
    ("CREATE VIEW pipeline_runs AS SELECT 1 AS id", "it is no ordinary table"),
    (
        "CREATE TABLE cost_tracking (id uuid PRIMARY KEY, model point, cost_usd numeric, timestamp timestamp)",
        "its column model is of type point",
    ),
    (
        "CREATE TABLE web_search_cache (cache_key text, query text, results jsonb, cached_at timestamp)",
        "its primary key is not cache_key",
    ),
    (
        "CREATE TABLE conversations (id uuid PRIMARY KEY, user_id uuid, role text, content text, timestamp timestamp, "
        "tenant int NOT NULL)",
        "its column tenant must be given by whoever writes",
    ),
    (
        "CREATE TABLE conversations (id uuid PRIMARY KEY, user_id uuid, role text, content text, timestamp timestamp); "
        "CREATE TABLE people (id uuid PRIMARY KEY); "
        "ALTER TABLE conversations ADD FOREIGN KEY (user_id) REFERENCES people",
        "refers to public.people; drop the foreign key conversations_user_id_fkey first",
    ),
]


@pytest.mark.parametrize(("table", "reason"), FOREIGN, ids=[reason for _, reason in FOREIGN])
@pytest.mark.parametrize("way", ["migrate", "psql", "plan"])
async def test_a_table_of_the_hosts_own_is_named_and_nothing_is_touched(
    empty_dsn: str, table: str, reason: str, way: str
) -> None:
    """Neither its rows nor its grants, and no other table is made, also where psql goes on after an error."""
    name = table.split()[2]
    execute(empty_dsn, table, f"GRANT SELECT ON {name} TO authenticated")
    before = objects(empty_dsn)
    grants = f"SELECT relacl::text, relrowsecurity FROM pg_class WHERE relname = '{name}'"
    granted = execute(empty_dsn, grants)
    if way == "psql":
        said = psql(empty_dsn)
    else:
        async with Database.connect(empty_dsn) as db:
            with pytest.raises(MigrationError) as raised:
                await (db.migrate() if way == "migrate" else db.migration_plan())
        said = str(raised.value)
    assert f"public.{name} is not ours: {reason}" in said.replace("its column user_id, which becomes text, ", "")
    assert "Nothing was changed" in said
    assert objects(empty_dsn) == before
    assert execute(empty_dsn, grants) == granted


def psql(dsn: str, *options: str) -> str:
    """What `psql -f` of all files complains of."""
    files = [argument for ours in migrate.migrations() for argument in ("-f", str(FOLDER / ours.name))]
    command = [cluster.programs() / "psql", dsn, "-q", "-X", *options, *files]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stderr


async def test_psql_leads_to_the_same_end(any_empty_dsn: str) -> None:
    """The files alone, twice, make of a host's tables what `migrate` makes of them."""
    execute(any_empty_dsn, FIRST, ROWS)
    before = counts(any_empty_dsn)
    assert psql(any_empty_dsn, "-v", "ON_ERROR_STOP=1") == ""
    made = objects(any_empty_dsn)
    assert psql(any_empty_dsn, "-v", "ON_ERROR_STOP=1") == ""
    assert objects(any_empty_dsn) == made
    assert counts(any_empty_dsn) == before
    assert execute(any_empty_dsn, "SELECT sum(calls) FROM cost_daily") == [(4,)]


async def test_what_the_host_made_of_its_tables_stays(empty_dsn: str) -> None:
    """A column, an index, a view on a view, a materialized one, a foreign key to it, a trigger and a default."""
    execute(
        empty_dsn,
        FIRST,
        ROWS,
        "ALTER TABLE conversations ADD COLUMN mood text; UPDATE conversations SET mood = 'calm'",
        "CREATE VIEW daily AS SELECT date(timestamp) AS day, sum(cost_usd) FROM cost_tracking GROUP BY 1",
        "CREATE VIEW recent WITH (security_invoker = true) AS SELECT * FROM daily WHERE day > '2025-01-01'",
        "COMMENT ON VIEW recent IS 'for the board'; GRANT SELECT ON recent TO authenticated",
        "CREATE MATERIALIZED VIEW talkers AS SELECT user_id, count(*) FROM conversations GROUP BY 1",
        "CREATE UNIQUE INDEX talkers_user ON talkers (user_id)",
        "CREATE TABLE bills (run_id uuid REFERENCES pipeline_runs(id)); INSERT INTO bills SELECT id FROM pipeline_runs",
        "CREATE TABLE audit (what text)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO public.audit VALUES (NEW.content); RETURN NEW; END $$",
        "CREATE TRIGGER noted AFTER INSERT ON conversations FOR EACH ROW EXECUTE FUNCTION note()",
    )
    views = """SELECT c.relname, c.reloptions, c.relacl, obj_description(c.oid) FROM pg_class c
                WHERE c.relname IN ('daily', 'recent', 'talkers', 'talkers_user') ORDER BY 1"""
    before = execute(empty_dsn, views)
    await migrated(empty_dsn)
    assert execute(empty_dsn, views) == before
    assert execute(empty_dsn, "SELECT count(*) FROM recent") == [(1,)]
    assert execute(empty_dsn, f"SELECT count FROM talkers WHERE user_id = '{USER}'") == [(2,)]
    assert execute(empty_dsn, "SELECT DISTINCT mood FROM conversations") == [("calm",)]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        execute(empty_dsn, f"INSERT INTO bills VALUES ('{uuid4()}')")
    async with Database.connect(empty_dsn) as db:
        await db.conversations.save(str(USER), "user", "heard", None)
    assert execute(empty_dsn, "SELECT what FROM audit") == [("heard",)]
    execute(empty_dsn, "INSERT INTO cost_tracking (model, step, cost_usd, tokens_used) VALUES ('m', 's', 1, 1)")
    assert execute(empty_dsn, "SELECT project FROM cost_tracking WHERE step = 's' AND cost_usd = 1") == [
        ("affordabot",)
    ]


async def test_policies_and_grants_of_the_hosts_stay(empty_dsn: str) -> None:
    """Users of the host's reach their own rows as before, by its policy on a uuid, and no others."""
    execute(
        empty_dsn,
        FIRST,
        ROWS,
        AUTH,
        "ALTER TABLE conversations ENABLE ROW LEVEL SECURITY; GRANT ALL ON conversations TO authenticated",
        "CREATE POLICY own ON conversations TO authenticated USING (auth.uid() = user_id) "
        "WITH CHECK (user_id = auth.uid())",
    )
    for _ in range(2):
        seen = execute(empty_dsn, "SELECT count(*) FROM conversations", as_role="authenticated")
        assert seen == [(2,)]
        async with Database.connect(empty_dsn) as db:
            await db.migrate(repeat=True)
    mine = f"INSERT INTO conversations (user_id, role, content) VALUES ('{USER}', 'user', 'mine')"
    execute(empty_dsn, mine, as_role="authenticated")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(empty_dsn, mine.replace(str(USER), str(OTHER)), as_role="authenticated")


async def test_a_grant_alone_still_opens_a_table_until_it_is_closed(empty_dsn: str) -> None:
    """Without row-level security a chosen grant goes on working, migrations repeat it not away, and doctor tells."""
    execute(empty_dsn, FIRST, ROWS, AUTH, "GRANT SELECT, INSERT ON cost_tracking TO authenticated")
    for _ in range(2):
        async with Database.connect(empty_dsn) as db:
            await db.migrate(repeat=True)
            assert await db.open_tables() == {"cost_tracking": "authenticated"}
        assert execute(empty_dsn, "SELECT count(*) FROM cost_tracking", as_role="authenticated") == [(4,)]
    spent = "INSERT INTO cost_tracking (model, step, cost_usd, tokens_used) VALUES ('m', 's', 1, 1)"
    execute(empty_dsn, spent, as_role="authenticated")
    execute(empty_dsn, "SELECT llm_common_close_table('cost_tracking')")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(empty_dsn, spent, as_role="authenticated")


async def test_rights_for_everybody_are_taken_back(empty_dsn: str) -> None:
    """What an old Supabase project gave each new table by default, nobody meant: our tables are closed."""
    execute(empty_dsn, FIRST, *(f"GRANT ALL ON {table} TO anon, authenticated" for table in TABLES))
    await migrated(empty_dsn)
    for table in TABLES:
        assert execute(empty_dsn, f"SELECT has_table_privilege('anon', '{table}', 'SELECT')") == [(False,)]
        assert execute(empty_dsn, f"SELECT relrowsecurity FROM pg_class WHERE relname = '{table}'") == [(True,)]


@pytest.mark.parametrize(
    "other",
    [
        "CREATE FUNCTION get_daily_cost(target_date date, project text DEFAULT 'x') RETURNS integer LANGUAGE sql "
        "AS 'SELECT 1'",
        "CREATE FUNCTION get_cost_breakdown(start_date date, end_date date, group_by text DEFAULT 'model') RETURNS "
        "TABLE (a text, b numeric) LANGUAGE sql AS 'SELECT NULL, 1'",
        "CREATE FUNCTION get_cache_stats() RETURNS TABLE (hit_rate numeric) LANGUAGE sql AS 'SELECT 1.0'",
        "CREATE FUNCTION compare_models(a date, b date, c text) RETURNS void LANGUAGE sql AS ''",
    ],
)
async def test_functions_of_before_are_replaced(empty_dsn: str, other: str) -> None:
    """Whatever the host's functions of these names took and gave: a call means ours. Other functions are left alone."""
    execute(empty_dsn, FIRST, "DROP FUNCTION IF EXISTS get_daily_cost(date)", other)
    execute(empty_dsn, "CREATE FUNCTION compare_models(a uuid, b uuid) RETURNS integer LANGUAGE sql AS 'SELECT 7'")
    await migrated(empty_dsn)
    names = (
        "get_daily_cost,get_monthly_cost,get_cost_breakdown,get_cache_stats,cleanup_search_cache,cleanup_conversations"
    )
    found = f"SELECT proname, count(*) FROM pg_proc WHERE proname = ANY ('{{{names}}}') GROUP BY 1 HAVING count(*) > 1"
    assert execute(empty_dsn, found) == []
    assert execute(empty_dsn, "SELECT compare_models(gen_random_uuid(), gen_random_uuid())") == [(7,)]
    assert execute(empty_dsn, "SELECT total_cost FROM get_daily_cost('2026-01-01')") == [(0,)]


async def test_functions_stay_the_same_when_nothing_is_in_their_way(dsn: str) -> None:
    """Applied again, no function is dropped and made anew: a host's views on them, and its grants, stay."""
    oids = "SELECT oid FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1"
    before = execute(dsn, oids)
    async with Database.connect(dsn) as db:
        await db.migrate(repeat=True)
    assert execute(dsn, oids) == before


async def test_a_dry_run_says_what_it_would_do_and_does_nothing(empty_dsn: str) -> None:
    """The files, the rows of each table that would be converted, who still reaches it, and the functions that go."""
    execute(
        empty_dsn, FIRST, ROWS, "GRANT SELECT ON cost_tracking TO authenticated; GRANT ALL ON conversations TO anon"
    )
    before = objects(empty_dsn)
    async with Database.connect(empty_dsn) as db:
        plan = await db.migration_plan()
    assert plan.files == tuple(migration.name for migration in migrate.migrations())
    found = {each.table: (each.rows, each.kept_open, each.closed_to) for each in plan.conversions}
    assert found["cost_tracking"] == (4, "authenticated", None)
    assert found["conversations"] == (4, None, "anon")
    assert set(found) == set(TABLES)
    assert "get_daily_cost(target_date date)" in plan.replaced_functions
    assert objects(empty_dsn) == before
    await migrated(empty_dsn)
    async with Database.connect(empty_dsn) as db:
        assert await db.migration_plan() == migrate.MigrationPlan((), (), ())


moments = st.datetimes() | st.none()
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
costs = st.decimals("-9999", "9999", places=6) | st.just(Decimal("NaN"))
whole = st.integers(-(2**31), 2**31 - 1) | st.none()
documents = st.recursive(st.none() | st.booleans() | texts, lambda inner: st.lists(inner, max_size=2), max_leaves=4)
ROW = {
    "cost_tracking": {
        "model": texts, "step": texts | st.none(), "cost_usd": costs, "tokens_used": whole, "timestamp": moments,
        "project": texts | st.none(),
    },
    "pipeline_runs": {
        "bill_id": texts, "jurisdiction": texts, "research_model": texts | st.none(),
        "status": st.sampled_from(["running", "completed", "failed", None]), "started_at": moments,
        "completed_at": moments, "analysis_json": documents.map(Jsonb) | st.none(),
        "quality_score": st.decimals("-9.99", "9.99", places=2) | st.none(), "error_message": texts | st.none(),
    },
    "pipeline_steps": {"output": documents.map(Jsonb) | st.none(), "timestamp": moments, "model": texts | st.none()},
    "conversations": {
        "user_id": st.uuids(), "role": st.sampled_from(["user", "system", None]), "content": texts,
        "timestamp": moments, "page": texts | st.none(),
    },
    "web_search_cache": {
        "cache_key": st.uuids().map(str), "query": texts, "results": documents.map(Jsonb), "cached_at": moments,
        "hit_count": whole,
    },
}  # fmt: skip
#: What stands for a null where ours has none.
FILLED = {("cost_tracking", "tokens_used"), ("cost_tracking", "timestamp"), ("cost_tracking", "project"),
          ("pipeline_runs", "started_at"), ("pipeline_runs", "status"), ("pipeline_steps", "timestamp"),
          ("conversations", "role"), ("conversations", "timestamp")}  # fmt: skip


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    rows=st.fixed_dictionaries({table: st.lists(st.fixed_dictionaries(row), max_size=4) for table, row in ROW.items()})
)
async def test_any_row_survives(postgres_server, rows) -> None:
    """Whatever the columns of the first schema can hold is there as it was, but for nulls that get a value."""
    dsn = postgres_server.create_database(f"host_{uuid4().hex}")
    execute(dsn, FIRST)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for table, each in ((name, row) for name, of_table in rows.items() for row in of_table):
            connection.execute(
                f"INSERT INTO {table} ({', '.join(each)}) VALUES ({', '.join('%s' for _ in each)})", [*each.values()]
            )
    before = {table: _contents(dsn, table) for table in ROW}
    await migrated(dsn)
    for table in ROW:
        after = _contents(dsn, table)
        assert len(after) == len(before[table])
        for was, now in zip(before[table], after, strict=True):
            for column, value in was.items():
                ended = table == "pipeline_runs" and was["status"] == "running" and now["status"] == "failed"
                assert (
                    _same(value, now[column])
                    or (value is None and (table, column) in FILLED)
                    or (ended and column in {"status", "completed_at", "error_message"})
                ), (table, column, value, now[column])
    assert (
        execute(dsn, "SELECT c.* FROM (SELECT DISTINCT project FROM cost_tracking) p, check_cost_ledger(p.project) c")
        == []
    )
    postgres_server.leave_database(dsn.split("dbname=")[1].split()[0])


def _contents(dsn: str, table: str) -> list[dict]:
    """The columns of the first schema, in the order of the key; times as text in UTC."""
    key = "cache_key" if table == "web_search_cache" else "id"
    columns: Sequence[str] = [*ROW[table], *([] if key in ROW[table] else [key])]
    shown = ", ".join(
        f"{c}::text" if c in {"timestamp", "started_at", "completed_at", "cached_at"} else c for c in columns
    )
    with psycopg.connect(dsn, options="-c timezone=UTC") as connection:
        found = connection.execute(f"SELECT {shown} FROM {table} ORDER BY {key}").fetchall()
    return [dict(zip(columns, row, strict=True)) for row in found]


def _same(was: object, now: object) -> bool:
    if isinstance(was, Decimal) and isinstance(now, Decimal):
        return was == now or (was.is_nan() and now.is_nan())
    if isinstance(was, UUID):
        return str(was) == str(now)
    if isinstance(was, str) and isinstance(now, str):
        return now in (was, was.removesuffix(" BC") + "+00" + " BC" * was.endswith(" BC"))
    return was == now
