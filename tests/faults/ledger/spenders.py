"""Many processes that spend at once: `python spenders.py LEDGER WHERE PROCESSES TASKS CALLS LIMIT_NANO`.

Imports everything, says "ready", waits for a line, forks, and each process prints what became of its calls. LEDGER is
`psycopg` (WHERE is a DSN), `supabase` (WHERE is the URL and the key, with a space between) or `naive` (a DSN): the way
budgets are usually checked, look first and write afterwards.
"""

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any, Protocol
from uuid import uuid4

from psycopg_pool import AsyncConnectionPool
from supabase import create_async_client

from llm_common._runtime.shielding import run_shielded
from llm_common.cost_tracker import CostTracker
from llm_common.exceptions import BudgetExceededError
from llm_common.models import Budget, CallStatus, Outcome, PlannedCall, Reservation

#: The most that a call can cost. Calls of owners that "die" are charged this, once their hold is over.
BOUND_NANO = 1_000
_LIVE_HOLD, _DEAD_HOLD = 60.0, 1.0
#: `interrupted` is cancelled at any moment, while it reserves too; `cancelled` while the provider would answer.
_FATES = ("ok", "failed", "unsent", "interrupted", "cancelled", "dies")


class _Payer(Protocol):
    async def reserve(self, call: PlannedCall) -> Reservation: ...
    async def settle(self, reservation: Reservation, outcome: Outcome) -> None: ...
    async def release(self, reservation: Reservation) -> None: ...


class _Naive:
    """Sum up, compare, and write when the call is over."""

    def __init__(self, pool: AsyncConnectionPool[Any], limit_nano: int) -> None:
        self._pool, self._limit = pool, limit_nano

    async def reserve(self, call: PlannedCall) -> Reservation:
        async with self._pool.connection() as connection:
            row = await (await connection.execute("SELECT coalesce(sum(cost_nano), 0) FROM naive_costs")).fetchone()
        assert row is not None
        if row[0] + call.bound_nano > self._limit:
            raise BudgetExceededError("the sum is too high")
        return Reservation(str(uuid4()), call)

    async def settle(self, reservation: Reservation, outcome: Outcome) -> None:
        async with self._pool.connection() as connection:
            await connection.execute("INSERT INTO naive_costs VALUES (%s)", (outcome.cost_nano,))

    async def release(self, reservation: Reservation) -> None:
        """There is nothing to give back."""


@asynccontextmanager
async def _payer(ledger: str, where: str, limit_nano: int) -> AsyncGenerator[_Payer]:
    if ledger == "naive":
        async with AsyncConnectionPool(where, min_size=1, max_size=10, open=False, timeout=60) as pool:
            yield _Naive(pool, limit_nano)
        return
    budget = Budget(Decimal(limit_nano).scaleb(-9), "total")
    url, _, key = where.partition(" ")
    source = await create_async_client(url, key) if ledger == "supabase" else where
    async with CostTracker(source, project="p", budgets=[budget]) as tracker:
        yield tracker


class _Process:
    def __init__(self, payer: _Payer, chance: random.Random) -> None:
        self._payer, self._chance = payer, chance
        self._told: Counter[str] = Counter()

    async def run(self, tasks: int, calls: int) -> Counter[str]:
        await asyncio.gather(*(self._spend(calls) for _ in range(tasks)))
        return self._told

    async def _spend(self, calls: int) -> None:
        for _ in range(calls):
            # Drawn here, before anything races.
            fate = self._chance.choices(_FATES, (10, 3, 2, 2, 2, 1))[0]
            call = asyncio.create_task(self._call(fate, self._chance.random() * 0.02))
            if fate == "interrupted":
                await asyncio.sleep(self._chance.random() * 0.2)
                self._told["interrupted"] += call.cancel()
            with suppress(asyncio.CancelledError):
                await call

    async def _call(self, fate: str, seconds: float) -> None:
        hold = _DEAD_HOLD if fate == "dies" else _LIVE_HOLD
        planned = PlannedCall(kind="chat", model="m", provider="x", bound_nano=BOUND_NANO, hold_seconds=hold)
        try:
            reservation = await self._reserve(planned)
        except BudgetExceededError:
            self._told["refused"] += 1
            return
        self._told[fate] += 1
        if fate == "dies":
            self._told["spent_nano"] += BOUND_NANO
            return
        status: CallStatus = "failed" if fate == "failed" else "ok"
        try:
            async with asyncio.timeout(seconds / 2 if fate == "cancelled" else None):
                await asyncio.sleep(seconds)
        except (asyncio.CancelledError, TimeoutError):
            await self._settle(reservation, "cancelled")
            return
        if fate == "unsent":
            await run_shielded(self._payer.release(reservation))
        else:
            await self._settle(reservation, status)

    async def _reserve(self, planned: PlannedCall) -> Reservation:
        """As `LLMClient` does: what was reserved for a call that is cancelled meanwhile is given back."""
        reserved: list[Reservation] = []

        async def reserve() -> None:
            reserved.append(await self._payer.reserve(planned))

        try:
            await run_shielded(reserve())
        except asyncio.CancelledError:
            for reservation in reserved:
                await run_shielded(self._payer.release(reservation))
            raise
        return reserved[0]

    async def _settle(self, reservation: Reservation, status: CallStatus) -> None:
        cost = self._chance.randint(1, BOUND_NANO)
        self._told["spent_nano"] += cost
        outcome = Outcome(model="m", provider="x", cost_nano=cost, price_source="map", status=status)
        await run_shielded(self._payer.settle(reservation, outcome))


async def _main(number: int, ledger: str, where: str, tasks: int, calls: int, limit_nano: int) -> None:
    async with _payer(ledger, where, limit_nano) as payer:
        told = await _Process(payer, random.Random(number)).run(tasks, calls)
    os.write(1, json.dumps(told).encode() + b"\n")


def main(ledger: str, where: str, processes: int, tasks: int, calls: int, limit_nano: int) -> None:
    os.write(1, b"ready\n")
    sys.stdin.readline()
    for number in range(processes):
        if os.fork() == 0:
            asyncio.run(_main(number, ledger, where, tasks, calls, limit_nano))
            sys.exit(0)
    failed = [status for status in (os.wait()[1] for _ in range(processes)) if status]
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(number) for number in sys.argv[3:]))
