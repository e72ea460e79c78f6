"""Everything that talks to the database, through pgbouncer in transaction mode.

Two connections to the server for all clients: between two statements a client finds itself on another session, so what
would need one (prepared statements, settings, session locks, LISTEN) would fail here.
"""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common.exceptions import BudgetExceededError
from llm_common.llm.breaker import Breakers
from llm_common.models import Outcome, PlannedCall
from llm_common.testing import FakeProvider
from llm_common.testing.analyst import answer_chat, answer_search

BILL = Path(__file__).parents[3] / "examples" / "bills" / "ab-1234.txt"
MODELS: dict[str, str] = dict.fromkeys(("research", "generate", "review"), "openrouter/z-ai/glm-5.3")
#: As conftest.py sets it.
SERVER_CONNECTIONS = 2
CALL = PlannedCall(kind="chat", model="m", provider="x", bound_nano=100, user_id="ann")
OUTCOME = Outcome(model="m", provider="x", cost_nano=60, price_source="map", status="ok")


# Sends all of its reserve, asks the provider, and only then would look for what the reserve came to.
_POSTING_CALLER = """
import json, os, sys, time, urllib.request, psycopg
dsn, url, call = sys.argv[1:]
connection = psycopg.connect(dsn, autocommit=True)
connection.pgconn.send_query_params(b"SELECT reserve_cost($1::jsonb, '[]')", [call.encode()])
while connection.pgconn.flush():
    pass
body = json.dumps({"model": "glm-5.3", "messages": [{"role": "user", "content": "Is it?"}]}).encode()
headers = {"Authorization": "Bearer " + os.environ["ZAI_API_KEY"], "Content-Type": "application/json"}
urllib.request.urlopen(urllib.request.Request(url + "/chat/completions", body, headers)).read()
print("answered", flush=True)
time.sleep(60)
"""


@pytest.fixture
async def pooled(pooled_dsn: str) -> AsyncGenerator[Database]:
    """A migrated database behind the pooler."""
    async with Database.connect(pooled_dsn) as db:
        yield db


def rows(dsn: str, query: bytes) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


async def test_many_clients_share_two_sessions(pooled_dsn: str, dsn: str):
    """What this module rests on: twenty open connections on our side are at most two at the server."""
    async with AsyncExitStack() as stack:
        for _ in range(20):
            await stack.enter_async_context(await psycopg.AsyncConnection.connect(pooled_dsn, autocommit=True))
        trackers = [await stack.enter_async_context(CostTracker(pooled_dsn, project="p")) for _ in range(20)]
        await asyncio.gather(*(tracker.budget_status() for tracker in trackers))
        others = b"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert rows(dsn, others) == [(SERVER_CONNECTIONS,)]


async def test_migrations(empty_dsn: str, pooler: str):
    """Several processes migrate at each start, at the same time: each file is applied by one of them."""
    async with AsyncExitStack() as stack:
        dsn = make_conninfo(empty_dsn, host=pooler, port=6432)
        databases = [await stack.enter_async_context(Database.connect(dsn)) for _ in range(3)]
        applied = await asyncio.gather(*(database.migrate() for database in databases))
        names = [state.name for state in await databases[0].migrations()]
        assert sorted(name for one in applied for name in one) == sorted(names)
        assert await databases[0].migrate() == []


async def test_the_ledger(pooled: Database, dsn: str):
    """Many calls at once: reserved, extended, settled, released, refused and expired as without a pooler."""
    tracker = CostTracker(pooled, "0.000005", project="p")

    async def live(number: int) -> bool:
        try:
            reservation = await tracker.reserve(CALL)
        except BudgetExceededError:
            return False
        if number % 3 == 0:
            await tracker.release(reservation)
        else:
            with suppress(BudgetExceededError):
                reservation = await tracker.extend(reservation, 1)
            await tracker.settle(reservation, OUTCOME)
        return True

    admitted = await asyncio.gather(*(live(number) for number in range(120)))
    assert set(admitted) == {True, False}
    await CostTracker(pooled, project="p").reserve(replace(CALL, hold_seconds=0.001))
    await asyncio.sleep(0.005)
    assert await tracker.expire() == 1
    assert rows(dsn, b"SELECT DISTINCT reserved_nano FROM budget_windows") == [(0,)]
    assert rows(dsn, b"SELECT * FROM check_cost_ledger('p')") == []


@pytest.mark.parametrize("isolation", ["serializable", "repeatable read"])
async def test_a_database_with_another_isolation(pooled_dsn: str, dsn: str, isolation: str):
    """The pooler takes no settings when a connection is opened, so each call says how its transaction is to be."""
    alter = sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = {}")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(alter.format(sql.Identifier(connection.info.dbname), sql.Literal(isolation)))
    async with Database.connect(pooled_dsn) as db:
        assert await db.migrate() == []
        tracker = CostTracker(db, "1", project="p")

        async def pair() -> None:
            await tracker.settle(await tracker.reserve(CALL), OUTCOME)

        await asyncio.gather(*(pair() for _ in range(30)))
        with pytest.raises(BudgetExceededError):
            await CostTracker(db, "0.000000001", project="p").reserve(CALL)
    assert rows(dsn, b"SELECT count(*), sum(cost_usd) FROM cost_tracking") == [(30, Decimal("0.0000018"))]


async def test_a_pool_of_the_host_that_prepares_statements(pooled_dsn: str):
    """psycopg prepares what is executed five times, which a pooler breaks; our calls do not let it."""
    pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
        pooled_dsn, min_size=3, open=False, kwargs={"prepare_threshold": 1}
    )
    async with pool:
        tracker = CostTracker(pool, project="p")
        for _ in range(8):
            reservations = await asyncio.gather(*(tracker.reserve(CALL) for _ in range(3)))
            await asyncio.gather(*(tracker.settle(reservation, OUTCOME) for reservation in reservations))


async def test_the_search_cache(pooled: Database, fake_provider_env: FakeProvider):
    """Paid for once, by many tasks of two clients; and a restart finds it."""
    for _ in range(2):
        async with WebSearchClient(None, pooled) as one, WebSearchClient(None, pooled) as two:
            answers = await asyncio.gather(*(client.search("q") for client in (one, two) for _ in range(10)))
            assert len({tuple(answer) for answer in answers}) == 1
    assert len(fake_provider_env.requests) == 1


async def test_a_pipeline_run(pooled: Database, dsn: str, monkeypatch: pytest.MonkeyPatch):
    """Leases, checkpoints and settlements of a whole analysis."""
    with FakeProvider.serve_in_thread(answer=answer_chat, search_answer=answer_search) as provider:
        for name, value in provider.environment().items():
            monkeypatch.setenv(name, value)
        async with LLMClient(breakers=Breakers()) as llm, WebSearchClient(None, pooled) as search:
            pipeline = AnalysisPipeline(llm, search, CostTracker(pooled), pooled, lease_seconds=1.0)
            await pipeline.run("AB-1234", BILL.read_text(), "California", MODELS)
    assert rows(dsn, b"SELECT status FROM pipeline_runs") == [("completed",)]
    assert rows(dsn, b"SELECT count(*) FROM cost_reservations") == [(0,)]
    assert rows(dsn, b"SELECT * FROM check_cost_ledger('default')") == []


@asynccontextmanager
async def no_connection_free(dsn: str) -> AsyncGenerator[None]:
    """Every connection of the pooler is within somebody's transaction."""
    async with AsyncExitStack() as stack:
        for _ in range(SERVER_CONNECTIONS):
            connection = await stack.enter_async_context(await psycopg.AsyncConnection.connect(dsn))
            await connection.execute("SELECT 1")
        yield


async def test_why_an_unbudgeted_call_waits_for_its_reserve_too(
    pooled_dsn: str, dsn: str, fake_provider_env: FakeProvider
):
    """A reserve that is posted and not awaited (the control) is lost with its process, though the provider was paid.

    It was on the socket in full. But what stands behind a socket, nobody can see: here a pooler that had no connection
    free, and forgets what its dead clients had asked for. Awaited, the call is not sent before it is in the books.
    """
    planned = {"project": "p", "kind": "chat", "provider": "zai", "model": "posted", "bound_nano": 100}
    call = json.dumps({"id": str(uuid4())} | planned)
    async with CostTracker(pooled_dsn, project="p") as tracker, LLMClient(cost_tracker=tracker) as llm:
        async with no_connection_free(pooled_dsn):
            url = fake_provider_env.environment()["ZAI_API_BASE"]
            caller = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _POSTING_CALLER, pooled_dsn, url, call, stdout=asyncio.subprocess.PIPE
            )
            assert caller.stdout is not None
            assert await caller.stdout.readline() == b"answered\n"
            caller.kill()
            await caller.wait()
            asking = asyncio.create_task(llm.chat("Is it?", "zai/glm-5.3"))
            await asyncio.sleep(0.3)
            assert len(fake_provider_env.requests) == 1  # the posting caller's
        await asking
    assert len(fake_provider_env.requests) == 2
    assert rows(dsn, b"SELECT model FROM cost_reservations UNION ALL SELECT model FROM cost_tracking") == [
        ("zai/glm-5.3",)
    ]
