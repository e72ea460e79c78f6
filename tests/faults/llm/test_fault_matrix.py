"""Every cell of the fault matrix, through `LLMClient` on real HTTP, paid for in a real ledger."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from pydantic import BaseModel

from llm_common.cost_tracker import CostTracker
from llm_common.exceptions import LLMError
from llm_common.llm.breaker import Breakers
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import LLMClient
from llm_common.models import Completion
from llm_common.settings import Settings
from llm_common.testing import FakeProvider
from tests.conftest import PostgresServer
from tests.faults.llm.fault_matrix import ATTEMPTS, CELLS, ENDPOINTS, SHORT, Cell, Outcome

pytestmark = [
    # One loop, one client for each wire and one database: each cell finds what the one before it left.
    pytest.mark.asyncio(loop_scope="module"),
    # LiteLLM silences this remark about itself when it is imported; pytest brings it back.
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
]

PROMPT = "Say one two three four five six seven eight nine ten"
#: How long a busy machine may take to notice that a deadline is over.
GRACE = 20.0


class Verdict(BaseModel):
    guilty: bool
    reason: str


@dataclass(frozen=True)
class Bench:
    """What the cells share."""

    provider: FakeProvider
    clients: dict[str, LLMClient]
    ledger: psycopg.AsyncConnection[tuple[Any, ...]]


@pytest.fixture(scope="module")
def matrix_dsn(postgres_server: PostgresServer, template_database: str) -> Generator[str]:
    yield postgres_server.create_database("fault_matrix", template_database)
    postgres_server.leave_database("fault_matrix")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(matrix_dsn: str) -> AsyncGenerator[Bench]:
    with FakeProvider.serve_in_thread() as provider:
        names = {endpoint.provider for endpoint in ENDPOINTS}
        settings = Settings(
            keys=dict.fromkeys(names, provider.api_key),
            urls={name: getattr(provider, f"{name}_url") for name in names},
        )
        tracker = CostTracker(matrix_dsn, project="matrix")
        clients = {
            wire: LLMClient(
                cost_tracker=tracker,
                settings=settings,
                wire=wire,
                retry=RetryPolicy(max_attempts=ATTEMPTS, base_wait=0.001),
                breakers=Breakers(),
            )
            for wire in ("direct", "litellm")
        }
        async with await psycopg.AsyncConnection.connect(matrix_dsn, autocommit=True) as ledger:
            for endpoint in ENDPOINTS:  # imports and price maps are not on the time of a cell
                await clients[endpoint.wire].chat("Hi", f"{endpoint.provider}/{endpoint.model}", max_tokens=100)
            yield Bench(provider, clients, ledger)
        for client in clients.values():
            await client.aclose()
        await tracker.aclose()


@pytest.mark.parametrize("cell", CELLS, ids=str)
async def test_a_fault(cell: Cell, bench: Bench):
    """The answer or the error, the requests that were sent, the ledger's row; all within the call's own deadline."""
    expected = cell.expected
    if expected.once != expected.always:
        assert await _observed(cell, bench, times=1) == expected.once
    observed = await _observed(cell, bench, times=ATTEMPTS)
    if cell.row.deadline == SHORT and observed != expected.always:
        # A busy machine needs longer to come to the fault at all.
        slower = Cell(cell.row.slower(10), cell.way, cell.endpoint)
        observed = await _observed(slower, bench, times=ATTEMPTS)
    assert observed == expected.always


async def test_the_books_agree(bench: Bench):
    """After whatever cells were run nothing is left reserved, and every counter is the sum of its rows."""
    await bench.provider.settled()
    assert await _rows(bench, "SELECT count(*) FROM cost_reservations") == [(0,)]
    assert await _rows(bench, "SELECT * FROM check_cost_ledger('matrix')") == []


async def _observed(cell: Cell, bench: Bench, times: int) -> Outcome:
    step = f"{cell}, {times} times, {cell.row.deadline:g} s"
    before = len(bench.provider.requests)
    bench.provider.script(*[cell.row.fault] * times)
    try:
        async with asyncio.timeout(cell.row.deadline + GRACE):
            result, cost_usd, tried = await _asked(cell, bench.clients[cell.endpoint.wire], step)
    finally:
        bench.provider.unscript()
    requests = bench.provider.requests[before:]
    assert {request.provider for request in requests} == {cell.endpoint.provider}
    assert tried == len(requests)
    assert await _rows(bench, "SELECT count(*) FROM cost_reservations WHERE step = %s", step) == [(0,)]
    rows = await _rows(
        bench, "SELECT status, cost_usd, price_source, attempts FROM cost_tracking WHERE step = %s", step
    )
    if not rows:
        assert cost_usd == 0
        return Outcome(result, len(requests), None, "nothing")
    [(status, paid, source, attempts)] = rows
    # What the caller is told is what is in the book.
    assert (paid, attempts) == (cost_usd, tried)
    assert paid > 0
    return Outcome(result, len(requests), status, "bound" if source == "estimate" else "counted")


async def _asked(cell: Cell, client: LLMClient, step: str) -> tuple[str, Decimal, int]:
    """What came of it, what it cost, and how many attempts the answer or the error has."""
    pieces = 0
    arguments: dict[str, Any] = {
        "model": f"{cell.endpoint.provider}/{cell.endpoint.model}",
        "max_tokens": 100,
        "timeout": cell.row.deadline,
        "step": step,
    }
    try:
        if cell.way == "stream":
            async with client.stream(PROMPT, **arguments) as stream:
                async for _ in stream:
                    pieces += 1
            completion: Completion[Any] = stream.completion
        else:
            schema = Verdict if cell.way == "structured" else None
            completion = await client.complete(PROMPT, response_model=schema, **arguments)
            assert schema is None or isinstance(completion.parsed, Verdict)
    except LLMError as error:
        cause = f" ({type(error.__cause__).__name__})" if pieces else ""
        return f"{type(error).__name__}{cause}", error.cost_usd, len(error.attempts)
    assert completion.text
    return "an answer", completion.cost_usd, len(completion.attempts)


async def _rows(bench: Bench, query: str, *values: str) -> list[tuple[Any, ...]]:
    return await (await bench.ledger.execute(query.encode(), values)).fetchall()
