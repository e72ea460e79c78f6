"""Reserve and settle, next to a bare INSERT: how many a second, on one budget and on many, at several connections."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final
from uuid import uuid4

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from benchmarks.postgres import Server
from llm_common.db.database import Database
from llm_common.db.functions.ledger import Limit
from llm_common.db.transport import Json

__all__ = ["Rate", "rates"]

_MANY_PROJECTS: Final = 64
_LIMITS: Final = (Limit("project", "day", 10**17, 0.8), Limit("project", "month", 10**17, 0.8))
_OUTCOME: Final[Mapping[str, Json]] = {
    "cost_nano": 1_234_000,
    "price_source": "map",
    "status": "ok",
    "tokens_used": 900,
}
_BARE: Final = "bare INSERT"
# The same row into a table with the same columns and indexes, without a budget, a rollup or a reservation.
_BARE_INSERT: Final = b"""
INSERT INTO bare (id, day, project, kind, provider, model, cost_usd, bound_usd, price_source, tokens_used)
VALUES (%s, CURRENT_DATE, 'bench', 'chat', 'provider', 'model', 0.001234, 0.002, 'map', 900)
"""

_Pool = AsyncConnectionPool[AsyncConnection[Any]]
_Work = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Rate:
    """The median of what was done in a second, `connections` at a time, and its ratio to the bare INSERT's."""

    name: str
    connections: int
    per_second: float
    ratio: float


def rates(server: Server, connections: Sequence[int], *, rounds: int, seconds: float) -> list[Rate]:
    """Each contestant for `seconds` in every round, in shuffled turns."""
    return asyncio.run(_rates(server.create("speed"), connections, rounds, seconds))


async def _rates(dsn: str, connections: Sequence[int], rounds: int, seconds: float) -> list[Rate]:
    most = max(connections)
    pool: _Pool = AsyncConnectionPool(dsn, min_size=most, max_size=most, open=False, kwargs={"autocommit": True})
    async with pool:
        async with pool.connection() as connection:
            await connection.execute("CREATE TABLE bare (LIKE public.cost_tracking INCLUDING ALL)")
        works = _works(pool)
        turns = [(name, many) for name in works for many in connections]
        done: dict[tuple[str, int], list[float]] = {turn: [] for turn in turns}
        for name in works:
            await _per_second(works[name], most, seconds / 4)
        for _ in range(rounds):
            for name, many in random.sample(turns, len(turns)):
                done[name, many].append(await _per_second(works[name], many, seconds))
    typical = {turn: median(measured) for turn, measured in done.items()}
    return [Rate(name, many, typical[name, many], typical[name, many] / typical[_BARE, many]) for name, many in turns]


def _works(pool: _Pool) -> dict[str, _Work]:
    ledger = Database.of(pool).ledger

    async def bare() -> None:
        async with pool.connection() as connection:
            await connection.execute(_BARE_INSERT, (uuid4(),), prepare=False)

    async def pair(project: str) -> None:
        call_id = str(uuid4())
        call: dict[str, Json] = {"id": call_id, "project": project, "kind": "chat", "provider": "provider"}
        await ledger.reserve({**call, "model": "model", "bound_nano": 2_000_000}, _LIMITS, hold_seconds=900)
        await ledger.settle(call_id, _OUTCOME)

    return {
        _BARE: bare,
        "reserve + settle, one budget": lambda: pair("bench"),
        f"reserve + settle, {_MANY_PROJECTS} budgets": lambda: pair(f"bench-{random.randrange(_MANY_PROJECTS)}"),
    }


async def _per_second(work: _Work, connections: int, seconds: float) -> float:
    end = time.perf_counter() + seconds
    done = 0

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await work()
            done += 1

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(connections)))
    return done / (time.perf_counter() - started)
