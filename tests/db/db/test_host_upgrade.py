"""A host's database of the documents' first schema becomes ours: each row kept, the host's own SQL as it was.

What no table of ours and none of the documents' can be is the host's: it is named, and nothing is touched.
"""

import subprocess
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
from llm_common.exceptions import MigrationError
from tests.support.catalog import objects

FOLDER = Path(__file__).parents[3] / "migrations"
FIRST = (Path(__file__).parents[2] / "fixtures" / "first_schema.sql").read_bytes()
TABLES = ("web_search_cache", "cost_tracking", "pipeline_runs", "pipeline_steps", "conversations")
USER, RUN = uuid4(), uuid4()

ROWS = f"""
INSERT INTO web_search_cache VALUES ('k', 'Tax rules', '[{{"title": "T"}}]', '2025-12-01 10:00', 3);
INSERT INTO cost_tracking (model, step, cost_usd, tokens_used, timestamp, project) VALUES
    ('gpt-4o', 'generate', 0.123456, 700, '2025-12-01 23:30', 'affordabot'),
    ('gpt-4o', NULL, 1, NULL, '2025-12-01 00:10', NULL);
INSERT INTO pipeline_runs (id, bill_id, jurisdiction, generate_model, status, started_at, quality_score) VALUES
    ('{RUN}', 'AB-1', 'California', 'gpt-4o', 'running', '2025-12-01', 8.5),
    (gen_random_uuid(), 'AB-2', 'California', NULL, 'completed', '2025-12-02', NULL);
INSERT INTO pipeline_steps (run_id, step, model, output) VALUES ('{RUN}', 'generate', 'gpt-4o', '{{"a": 1}}'),
    ('{RUN}', 'generate', 'gpt-4o', NULL), (NULL, 'review', NULL, '[]');
INSERT INTO conversations (user_id, role, content, page, timestamp) VALUES
    ('{USER}', 'user', 'How do I roll over?', 'retirement', '2025-12-01 10:00'),
    ('{USER}', 'assistant', '', NULL, now());
"""


def execute(dsn: str, *statements: str | bytes) -> list[tuple]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def without(*tables: str) -> str:
    """The first schema with only some of its tables, and what hangs on the others gone too."""
    return "".join(f"DROP TABLE {table} CASCADE;" for table in TABLES if table not in tables)


async def migrated(dsn: str) -> None:
    async with Database.connect(dsn) as db:
        await db.migrate()


async def test_every_row_is_there_and_counted(empty_dsn: str, dsn: str) -> None:
    """All five tables with odd rows: the schema is that of a new database, and the ledger knows the old costs."""
    execute(empty_dsn, FIRST, ROWS)
    await migrated(empty_dsn)
    made, new = objects(empty_dsn), objects(dsn)
    assert {kind: made[kind] ^ new[kind] for kind in made if made[kind] != new[kind]} == {}
    counts = execute(empty_dsn, f"SELECT {', '.join(f'(SELECT count(*) FROM {table})' for table in TABLES)}")
    assert counts == [(1, 2, 3, 3, 2)]  # a run is made for the step that had none
    async with Database.connect(empty_dsn) as db:
        tracker = CostTracker(db, project="affordabot")
        assert await tracker.get_daily_cost("2025-12-01") == Decimal("0.123456")
    assert execute(empty_dsn, "SELECT * FROM check_cost_ledger('affordabot')") == []
    assert execute(empty_dsn, "SELECT total_cost FROM get_daily_cost('2025-12-01')") == [(Decimal("1.123456"),)]
    assert execute(empty_dsn, f"SELECT status, quality_score FROM pipeline_runs WHERE id = '{RUN}'") == [
        ("failed", 8.5)
    ]
    at = execute(empty_dsn, "SELECT \"timestamp\" FROM cost_tracking WHERE step = 'generate'")
    assert at == [(datetime(2025, 12, 1, 23, 30, tzinfo=UTC),)]


@pytest.mark.parametrize("table", TABLES)
async def test_each_table_alone_becomes_ours(empty_dsn: str, dsn: str, table: str) -> None:
    """A host that has applied a part of the documents' migration is no worse off."""
    kept = ("pipeline_runs", table) if table == "pipeline_steps" else (table,)
    execute(empty_dsn, FIRST, ROWS, without(*kept))
    before = execute(empty_dsn, f"SELECT count(*) FROM {table}")
    await migrated(empty_dsn)
    assert execute(empty_dsn, f"SELECT count(*) FROM {table}") >= before
    assert objects(empty_dsn) == objects(dsn)


HOSTS_OWN = [
    "INSERT INTO web_search_cache(cache_key, query, results, cached_at, hit_count) VALUES ('k2', 'q', '{}', now(), 0)",
    "INSERT INTO cost_tracking(model, step, cost_usd, tokens_used, project) VALUES ('m', 'generate', 0.5, 10, 'p')",
    "INSERT INTO cost_tracking(model, step, cost_usd, tokens_used, timestamp) VALUES ('m', 's', 0.25, 1, '2025-11-05')",
    f"""INSERT INTO pipeline_runs(id, bill_id, jurisdiction, research_model, generate_model, review_model, status)
        VALUES ('{uuid4()}', 'AB-9', 'California', 'a', 'b', 'c', 'running')""",
    "UPDATE pipeline_runs SET status = 'completed', completed_at = now(), quality_score = 0.9 WHERE bill_id = 'AB-9'",
    "INSERT INTO pipeline_steps(run_id, step, model, output) SELECT id, 'review', 'm', NULL FROM pipeline_runs LIMIT 1",
    f"INSERT INTO conversations(id, user_id, role, content) VALUES ('{uuid4()}', '{USER}', 'user', 'again')",
    f"SELECT content FROM conversations WHERE user_id = '{USER}'::uuid ORDER BY timestamp DESC LIMIT 20",
    "SELECT total_cost FROM get_daily_cost('2025-11-05')",
    "SELECT get_daily_cost(CURRENT_DATE)",
    "SELECT get_monthly_cost(2025, 11)",
    "SELECT cleanup_search_cache()",
    """SELECT generate_model, avg(quality_score), count(*) FILTER (WHERE status = 'failed') FROM pipeline_runs
        WHERE started_at > now() - INTERVAL '7 days' GROUP BY generate_model""",
]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_hosts_own_sql_works_to_the_letter(empty_dsn: str, when: str) -> None:
    """Old code writes beside new code; what it spends is in the budgets and in the reports, on its own day."""
    execute(empty_dsn, FIRST, ROWS)
    if when == "after":
        await migrated(empty_dsn)
    for statement in HOSTS_OWN:
        execute(empty_dsn, statement)
    if when == "after":
        assert execute(empty_dsn, "SELECT get_monthly_cost(2025, 11)") == [(Decimal("0.25"),)]
        assert execute(empty_dsn, "SELECT * FROM check_cost_ledger('p')") == []
        spent = execute(empty_dsn, "SELECT cost_nano FROM cost_daily WHERE project = 'p'")
        assert spent == [(500_000_000,)]
        models = execute(empty_dsn, "SELECT models FROM pipeline_runs WHERE bill_id = 'AB-9'")
        assert models == [({"research": "a", "generate": "b", "review": "c"},)]


@pytest.mark.parametrize(
    "table",
    [
        "CREATE TABLE conversations (id uuid PRIMARY KEY, user_id uuid, title text)",
        "CREATE TABLE conversations (id int, title text, created_at timestamptz)",
        "CREATE TABLE cost_tracking (id int, amount numeric)",
        "CREATE TABLE budget_windows (name text)",
    ],
)
@pytest.mark.parametrize("way", ["migrate", "psql"])
async def test_a_table_of_the_hosts_own_is_named_and_nothing_is_touched(empty_dsn: str, table: str, way: str) -> None:
    """Neither its rows nor its grants, and no other table is made, also where psql goes on after an error."""
    name = table.split()[2]
    execute(empty_dsn, table, f"GRANT SELECT ON {name} TO authenticated")
    before = objects(empty_dsn)
    grants = f"SELECT relacl::text, relrowsecurity FROM pg_class WHERE relname = '{name}'"
    granted = execute(empty_dsn, grants)
    if way == "migrate":
        with pytest.raises(MigrationError, match=rf"public\.{name} is not ours") as raised:
            await migrated(empty_dsn)
        assert "Nothing was changed" in str(raised.value)
    else:
        assert f"public.{name} is not ours" in psql(empty_dsn)
    assert objects(empty_dsn) == before
    assert execute(empty_dsn, grants) == granted


def psql(dsn: str, *options: str) -> str:
    """What `psql -f` of all files complains of."""
    files = [argument for ours in migrate.migrations() for argument in ("-f", str(FOLDER / ours.name))]
    command = [cluster.programs() / "psql", dsn, "-q", "-X", *options, *files]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stderr


async def test_psql_leads_to_the_same_end(empty_dsn: str, dsn: str) -> None:
    """The files alone take a host's tables over."""
    execute(empty_dsn, FIRST, ROWS)
    assert "ERROR" not in psql(empty_dsn, "-v", "ON_ERROR_STOP=1")
    assert objects(empty_dsn) == objects(dsn)
    assert execute(empty_dsn, "SELECT count(*) FROM cost_tracking") == [(2,)]


async def test_what_the_host_added_granted_and_referred_to_stays(empty_dsn: str) -> None:
    """A column, a grant to its users with a policy, and a foreign key of its own."""
    execute(
        empty_dsn,
        FIRST,
        ROWS,
        "CREATE SCHEMA auth; CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql AS "
        f"$$ SELECT '{USER}'::uuid $$; GRANT USAGE ON SCHEMA auth, public TO authenticated",
        "ALTER TABLE conversations ADD COLUMN mood text; UPDATE conversations SET mood = 'calm'",
        "ALTER TABLE conversations ENABLE ROW LEVEL SECURITY; GRANT SELECT, INSERT ON conversations TO authenticated",
        "CREATE POLICY own ON conversations FOR SELECT TO authenticated USING (auth.uid() = user_id)",
        "CREATE TABLE bills (run_id uuid REFERENCES pipeline_runs(id)); INSERT INTO bills SELECT id FROM pipeline_runs",
    )
    await migrated(empty_dsn)
    with psycopg.connect(empty_dsn) as connection:
        connection.execute("SET LOCAL ROLE authenticated")
        seen = connection.execute("SELECT content, mood FROM conversations WHERE page = 'retirement'").fetchall()
    assert seen == [("How do I roll over?", "calm")]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        execute(empty_dsn, f"INSERT INTO bills VALUES ('{uuid4()}')")
    assert execute(empty_dsn, "SELECT count(*) FROM bills") == [(2,)]


async def test_rights_for_everybody_are_taken_back(empty_dsn: str) -> None:
    """What an old Supabase project gave each new table by default, nobody meant: our tables are closed."""
    execute(empty_dsn, FIRST, *(f"GRANT ALL ON {table} TO anon, authenticated" for table in TABLES))
    await migrated(empty_dsn)
    for table in TABLES:
        assert execute(empty_dsn, f"SELECT has_table_privilege('anon', '{table}', 'SELECT')") == [(False,)]
        assert execute(empty_dsn, f"SELECT relrowsecurity FROM pg_class WHERE relname = '{table}'") == [(True,)]


async def test_a_dry_run_says_what_it_would_do_and_does_nothing(empty_dsn: str) -> None:
    """The files, and the rows of each table that would be taken over."""
    execute(empty_dsn, FIRST, ROWS)
    before = objects(empty_dsn)
    async with Database.connect(empty_dsn) as db:
        rehearsal = await db.rehearse_migration()
    assert rehearsal.names == tuple(migration.name for migration in migrate.migrations())
    assert "public.cost_tracking of the host's first schema: 2 rows taken over" in rehearsal.notes
    assert objects(empty_dsn) == before


moments = (
    st.integers(0, 2**31).map(lambda seconds: datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)) | st.none()
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
costs = st.decimals("-99", "99", places=6) | st.just(Decimal("NaN"))
whole = st.integers(-(2**31), 2**31 - 1) | st.none()
documents = st.recursive(st.none() | st.booleans() | texts, lambda inner: st.lists(inner, max_size=2), max_leaves=4)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cost_rows=st.lists(st.tuples(texts, texts | st.none(), costs, whole, moments, texts | st.none()), max_size=4),
    run_rows=st.lists(
        st.tuples(texts, texts, st.sampled_from(["running", "completed", "failed", None]), moments, moments),
        max_size=3,
    ),
    outputs=st.lists(documents, max_size=3),
    said=st.lists(st.tuples(st.uuids(), st.sampled_from(["user", "system", None]), texts, moments), max_size=3),
    found=st.lists(st.tuples(texts, documents, moments, whole), max_size=3, unique_by=lambda row: row[0]),
)
async def test_any_row_survives(postgres_server, cost_rows, run_rows, outputs, said, found) -> None:
    """Whatever the columns of the first schema can hold: every row is there, with what it said."""
    name = f"host_{uuid4().hex}"
    dsn = postgres_server.create_database(name)
    execute(dsn, FIRST)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for row in cost_rows:
            connection.execute(
                "INSERT INTO cost_tracking (model, step, cost_usd, tokens_used, timestamp, project) "
                "VALUES (%s, %s, %s, %s, %s, %s)",
                row,
            )
        for row in run_rows:
            connection.execute(
                "INSERT INTO pipeline_runs (bill_id, jurisdiction, status, started_at, completed_at) "
                "VALUES (%s, %s, %s, %s, %s)",
                row,
            )
        for output in outputs:
            connection.execute("INSERT INTO pipeline_steps (output) VALUES (%s)", [Jsonb(output)])
        for row in said:
            connection.execute(
                "INSERT INTO conversations (user_id, role, content, timestamp) VALUES (%s, %s, %s, %s)", row
            )
        for row in found:
            connection.execute(
                "INSERT INTO web_search_cache (cache_key, query, results, cached_at, hit_count) "
                "VALUES (%s, 'q', %s, %s, %s)",
                (row[0], Jsonb(row[1]), row[2], row[3]),
            )
    await migrated(dsn)
    kept = execute(dsn, "SELECT id::text, cost_usd, tags FROM cost_tracking")
    assert len(kept) == len(cost_rows)
    good = sorted(row[2] for row in cost_rows if row[2] >= 0) if all(not row[2].is_nan() for row in cost_rows) else None
    if good is not None:
        assert sorted(cost for _, cost, tags in kept if "host_cost_usd" not in tags) == good
    assert execute(dsn, "SELECT count(*) FROM pipeline_steps") == [(len(outputs),)]
    assert execute(
        dsn, "SELECT count(*) FROM pipeline_runs WHERE error_message IS DISTINCT FROM 'steps without a run'"
    ) == [(len(run_rows),)]
    assert sorted(execute(dsn, "SELECT user_id, content FROM conversations")) == sorted(
        (str(UUID(str(user))), content) for user, _, content, _ in said
    )
    assert execute(dsn, "SELECT count(*) FROM web_search_cache") == [(len(found),)]
    postgres_server.leave_database(name)
