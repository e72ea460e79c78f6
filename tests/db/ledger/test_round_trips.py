"""What a call costs in round trips: two, one before and one after it, whether or not a budget binds it.

An unbudgeted call could do with one, a row written afterwards. But a process that is killed in between would then leave
nothing of a call that was paid, and the next budget would not know of it: the row of a paid call begins before it.
Sending the reserve without waiting for it is no way out: tests/faults/ledger/test_pooler.py shows one that is lost.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from supabase import AsyncClientOptions, create_async_client

from llm_common.cost_tracker import CostTracker
from llm_common.exceptions import BudgetExceededError, LLMError
from llm_common.llm.breaker import Breakers
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import LLMClient
from llm_common.models import Budget, BudgetScope
from llm_common.testing import FakeProvider, Fault
from tests.contract.rpc_server import RpcServer

MODEL = "zai/glm-5.3"
BUDGETED = (Budget(Decimal(1)), Budget(Decimal(20), "month"))
SCOPES: tuple[BudgetScope, ...] = ("user", "model", "run", "tag")


class Counter:
    """Round trips since they were last taken."""

    def __init__(self) -> None:
        self.total = 0

    def take(self) -> int:
        taken, self.total = self.total, 0
        return taken


class CountingLine:
    """A socket in front of the server's that reads along: a client waits after each Sync and each simple Query.

    Messages are a type of one byte and a length of four that counts itself; the first, a connection's start, has no
    type (https://www.postgresql.org/docs/current/protocol-message-formats.html).
    """

    def __init__(self, folder: Path, dsn: str) -> None:
        parts = conninfo_to_dict(dsn)
        name = f".s.PGSQL.{parts.get('port', 5432)}"
        self._server, self._here = Path(str(parts["host"])) / name, folder / name
        self.dsn = make_conninfo(dsn, host=str(folder))
        self.trips = Counter()
        self._serving: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def open(self) -> AsyncGenerator["CountingLine"]:
        def accept(client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
            self._serving.append(asyncio.create_task(self._serve(client, answers)))

        server = await asyncio.start_unix_server(accept, self._here)
        try:
            yield self
        finally:
            server.close()
            await asyncio.gather(*self._serving)

    async def _serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        upstream, out = await asyncio.open_unix_connection(self._server)
        await asyncio.gather(self._forward(client, out), self._answer(upstream, answers))
        await out.wait_closed()
        await answers.wait_closed()

    async def _forward(self, client: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        head = 0
        while True:
            try:
                start = await client.readexactly(head + 4)
                rest = await client.readexactly(int.from_bytes(start[head:]) - 4)
            except asyncio.IncompleteReadError:
                break
            self.trips.total += start[:head] in (b"S", b"Q")
            head = 1
            out.write(start + rest)
        out.close()

    async def _answer(self, upstream: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        while data := await upstream.read(65536):
            answers.write(data)
        answers.close()


@pytest.fixture
async def line(dsn: str, tmp_path: Path) -> AsyncGenerator[CountingLine]:
    async with CountingLine(tmp_path, dsn).open() as line:
        yield line


@asynccontextmanager
async def calling(tracker: CostTracker) -> AsyncGenerator[LLMClient]:
    async with LLMClient(
        cost_tracker=tracker, model=MODEL, retry=RetryPolicy(base_wait=0.01), breakers=Breakers()
    ) as llm:
        yield llm


async def look_around(tracker: CostTracker, line: CountingLine) -> None:
    """A database is asked once how it is set, by whoever comes first."""
    await tracker.get_daily_cost()
    line.trips.take()


async def test_the_counter_counts(line: CountingLine):
    """A query without parameters is one round trip, and so is one with; opening a connection is none."""
    async with await psycopg.AsyncConnection.connect(line.dsn, autocommit=True) as connection:
        assert line.trips.take() == 0
        await connection.execute("SELECT 1")
        await connection.execute("SELECT %s::text", ("x",))
        assert line.trips.take() == 2
        async with connection.transaction():
            await connection.execute("SELECT 1")
        assert line.trips.take() == 3


@pytest.mark.parametrize("budgets", [BUDGETED, ()], ids=["budgeted", "unbudgeted"])
async def test_a_call_is_two_round_trips(
    line: CountingLine, budgets: tuple[Budget, ...], fake_provider_env: FakeProvider
):
    """One reserves and one settles, from the first call on, which also opens the day's windows."""
    async with CostTracker(line.dsn, budgets=budgets, project="p") as tracker, calling(tracker) as llm:
        await look_around(tracker, line)
        for _ in range(3):
            await llm.chat("Is it?")
            assert line.trips.take() == 2


async def test_more_budgets_are_not_more_round_trips(line: CountingLine, fake_provider_env: FakeProvider):
    """Project, user, model, run and tag at once are checked in the one statement that reserves."""
    scopes = [Budget(Decimal(1), "day", scope) for scope in SCOPES]
    async with CostTracker(line.dsn, budgets=[*BUDGETED, *scopes], project="p") as tracker, calling(tracker) as llm:
        await look_around(tracker, line)
        await llm.chat("Is it?", user_id="ann", run_id="r", tags={"team": "a", "case": "b"})
    assert line.trips.take() == 2


async def test_a_stream_is_two_round_trips(line: CountingLine, fake_provider_env: FakeProvider):
    """However many pieces it has."""
    async with CostTracker(line.dsn, project="p") as tracker, calling(tracker) as llm:
        await look_around(tracker, line)
        async with llm.stream("Is it?") as stream:
            assert len([delta async for delta in stream]) > 1
    assert line.trips.take() == 2


async def test_a_call_that_fails_is_two_round_trips(line: CountingLine, fake_provider_env: FakeProvider):
    """A try that cost nothing is tried again under the same reserve; what was not spent is given back in one."""
    async with CostTracker(line.dsn, budgets=BUDGETED, project="p") as tracker, calling(tracker) as llm:
        await look_around(tracker, line)
        fake_provider_env.script(Fault.rate_limit())
        await llm.chat("Is it?")
        assert len(fake_provider_env.requests) == 2
        assert line.trips.take() == 2
        fake_provider_env.script(Fault.unauthorized())
        with pytest.raises(LLMError):
            await llm.chat("Is it?")
        assert line.trips.take() == 2


async def test_a_refusal_is_one_round_trip(line: CountingLine, fake_provider_env: FakeProvider):
    """Nothing is sent, and nothing is left to give back."""
    async with CostTracker(line.dsn, "0.000001", project="p") as tracker, calling(tracker) as llm:
        await look_around(tracker, line)
        with pytest.raises(BudgetExceededError):
            await llm.chat("Is it?")
    assert line.trips.take() == 1
    assert fake_provider_env.requests == []


@pytest.mark.parametrize("budgets", [BUDGETED, ()], ids=["budgeted", "unbudgeted"])
async def test_over_supabase_a_call_is_two_requests(
    dsn: str, budgets: tuple[Budget, ...], fake_provider_env: FakeProvider
):
    """The same over HTTP: one request each."""
    sent: list[str] = []

    async def note(request: httpx.Request) -> None:
        sent.append(request.url.path)

    async with (
        RpcServer(dsn, "anon", "service") as server,
        httpx.AsyncClient(event_hooks={"request": [note]}) as session,
    ):
        options = AsyncClientOptions(httpx_client=session)
        source = await create_async_client(server.url, server.service_key, options)
        async with CostTracker(source, budgets=budgets, project="p") as tracker, calling(tracker) as llm:
            await llm.chat("Is it?")
    assert sent == ["/rest/v1/rpc/reserve_cost", "/rest/v1/rpc/settle_cost"]
