"""The books of a test: short names for what is done over and over, and the proof at its end."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any
from uuid import uuid4

import pytest
from psycopg import AsyncConnection

from llm_common.db.database import Database
from llm_common.db.functions.ledger import Entry, Limit


@pytest.fixture
async def people(dsn: str) -> AsyncGenerator[AsyncConnection]:
    """A connection such as people use, as the database's owner."""
    async with await AsyncConnection.connect(dsn, autocommit=True) as connection:
        yield connection


class Books:
    """Short names for what a test does over and over."""

    def __init__(self, db: Database, people: AsyncConnection) -> None:
        self.db, self.people = db, people

    async def reserve(self, bound: int = 100, *, limits: Sequence[Limit] = (), hold: float = 900.0, **call: Any) -> str:
        call_id = str(uuid4())
        planned = {"kind": "chat", "project": "p", "provider": "x", "model": "m", "id": call_id, "bound_nano": bound}
        await self.db.ledger.reserve({**planned, **call}, limits, hold_seconds=hold)
        return call_id

    async def settle(self, call_id: str, cost: int, **outcome: Any) -> Entry:
        known = {"cost_nano": cost, "price_source": "map", "status": "ok", "tokens_used": 3}
        return await self.db.ledger.settle(call_id, {**known, **outcome})

    async def record(self, cost: int, *, limits: Sequence[Limit] = (), **row: Any) -> Entry:
        return await self.db.ledger.record({"project": "p", "model": "m", "cost_nano": cost, **row}, limits)

    async def dead(self, bound: int = 100, **call: Any) -> str:
        call_id = await self.reserve(bound, hold=0.001, **call)
        await asyncio.sleep(0.005)
        return call_id

    async def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        return await (await self.people.execute(query, arguments)).fetchall()  # pyright: ignore[reportArgumentType] (dynamic)

    async def window(self, scope: str = "project", window: str = "day") -> tuple[int, int, int]:
        """Reserved, spent, over; of the newest such window."""
        query = (
            'SELECT reserved_nano, spent_nano, over_nano FROM budget_windows WHERE scope = %s AND "window" = %s '
            "ORDER BY starts DESC LIMIT 1"
        )
        return (await self.rows(query, scope, window))[0]

    async def row(self, call_id: str) -> tuple[Any, ...]:
        """Cost in nano-dollars, status, price source."""
        query = "SELECT cost_nano(cost_usd), status, price_source FROM cost_tracking WHERE id = %s"
        return (await self.rows(query, call_id))[0]

    async def differences(self, project: str = "p") -> list[tuple[Any, ...]]:
        return await self.rows("SELECT * FROM check_cost_ledger(%s)", project)


@pytest.fixture
async def books(db: Database, people: AsyncConnection) -> AsyncGenerator[Books]:
    """At the end of each test the counters must equal the rows."""
    books = Books(db, people)
    yield books
    assert await books.differences() == []


@pytest.fixture
def day_limit() -> Callable[..., Limit]:
    """A limit, on the project's day unless said otherwise."""

    def make(nano: int, scope: str = "project", window: str = "day", alert: float | None = None) -> Limit:
        return Limit(scope, window, nano, alert)

    return make
