"""The ledger's SQL with a spool beside it: what the database cannot take now it gets later, once."""

import asyncio
import fcntl
import json
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

from llm_common._runtime.shielding import run_shielded
from llm_common.db.functions.ledger import Entry, LedgerFunctions, Limit
from llm_common.db.retry import again
from llm_common.db.transport import Json
from llm_common.exceptions import BudgetExceededError, DatabaseError, DatabaseUnavailableError, InvalidInputError
from llm_common.ledger.spool import Operation, Spool, SpoolLine
from llm_common.ledger.writer import HeldCall

__all__ = ["SpooledLedger"]

_WAITS = (0.1, 0.4)
#: For so long after a failure nobody knocks again: the calls of an outage need not all wait for it.
_AWAY_SECONDS = 2.0
_UNKNOWN_RESERVATION = "LC003"


class SpooledLedger:
    """`LedgerWrites` of a tracker that goes on without its database. `tell` gets what each replayed line changed.

    The order of the file is the order of the replay, and each line can be replayed any number of times, so a replay
    that was killed begins anew. Of all processes, one replays at a time.
    """

    def __init__(self, functions: LedgerFunctions, spool: Spool, tell: Callable[[Entry], Awaitable[None]]) -> None:
        self._functions = functions
        self._spool = spool
        self._tell = tell
        self._away_until = 0.0
        self._spent_today_nano = 0

    async def reserve(self, held: HeldCall) -> Entry:
        """Where the database is away, raises `BudgetExceededError` if the allowance does not cover the bound."""

        async def ask() -> Entry:
            return await self._functions.reserve(held.call, held.limits, hold_seconds=held.hold_seconds)

        was_away = self._is_away
        answer = await self._ask(ask)
        if answer is not None:
            return answer
        try:
            return await self._reserve(held, covered_nano=0)
        except BudgetExceededError:
            if not was_away:
                # It may have arrived in the database all the same, and would be charged when it expires.
                await self._append("release", held.id)
            raise

    async def extend(
        self, held: HeldCall, more_nano: int, *, extension_id: str, model: str | None, provider: str | None
    ) -> Entry:
        """`held` is the call as it is after the extension."""

        async def ask() -> Entry:
            return await self._functions.extend(
                held.id, more_nano, extension_id=extension_id, model=model, provider=provider, limits=held.limits
            )

        before = held.bound_nano - more_nano
        return await self._ask_for_held(held.id, ask) or await self._reserve(held, covered_nano=before)

    async def settle(self, held: HeldCall, outcome: Mapping[str, Json]) -> Entry:
        async def ask() -> Entry:
            return await self._functions.settle(held.id, outcome)

        answer = await self._ask_for_held(held.id, ask)
        if answer is None:
            await self._append("settle", held.id, **_facts(held), call=dict(held.call), outcome=dict(outcome))
            cost = outcome["cost_nano"]
            answer = self._later(cost if isinstance(cost, int) else 0)
        return answer

    async def release(self, reservation_id: str) -> None:
        async def ask() -> Entry:
            await self._functions.release(reservation_id)
            return self._later(0)

        answer = await self._ask(ask)
        # A reserve that is in the file may be replayed once more by somebody else.
        if answer is None or (self._spool.waits and await self._holds(reservation_id)):
            await self._append("release", reservation_id)

    async def give_back(self, reservation_id: str) -> None:
        await self.release(reservation_id)

    async def record(self, row: Mapping[str, Json], limits: Sequence[Limit]) -> Entry:
        row = {"timestamp": datetime.now(UTC).isoformat(), **row}

        async def ask() -> Entry:
            return await self._functions.record(row, limits)

        answer = await self._ask(ask)
        if answer is None:
            await self._append("record", str(row["id"]), row=dict(row), limits=[limit.as_json() for limit in limits])
            cost = row["cost_nano"]
            answer = self._later(cost if isinstance(cost, int) else 0)
        return answer

    async def replay(self) -> int:
        """Bring the file's lines into the database; gives their number. Waits for another process that does."""
        while True:
            async with self._alone() as alone:
                if alone:
                    return await self._replay()
            await asyncio.sleep(0.05)

    async def catch_up(self) -> None:
        """Replay what there is, unless somebody else does. Raises `DatabaseUnavailableError`."""
        if self._spool.waits:
            async with self._alone() as alone:
                if alone:
                    await self._replay()

    async def _replay(self) -> int:
        done = 0
        while self._spool.waits:
            lines, end = await asyncio.to_thread(self._spool.read)
            for line in lines[done:]:
                await self._replay_line(line)
            done = len(lines)
            if await asyncio.to_thread(self._spool.clear, end):
                break
        return done

    async def _replay_line(self, line: SpoolLine) -> None:
        try:
            for entry in await again(lambda: self._apply(line), waits=_WAITS):
                self._spent_today_nano = entry.spent_today_nano
                await self._tell(entry)
        except InvalidInputError as error:
            await asyncio.to_thread(self._spool.refuse, json.dumps(line), str(error))

    async def _apply(self, line: SpoolLine) -> list[Entry]:
        call_id: str = line["id"]
        match line["operation"]:
            case "reserve":
                return [await self._adopt(line)]
            case "settle":
                return [await self._adopt(line), await self._functions.settle(call_id, line["outcome"])]
            case "record":
                return [await self._functions.record(line["row"], _limits(line))]
            case _:
                await self._functions.release(call_id)
                return []

    async def _adopt(self, line: SpoolLine) -> Entry:
        return await self._functions.adopt(
            line["call"],
            _limits(line),
            hold_seconds=line["hold_seconds"],
            reserved_at=_made_at(line["id"]),
        )

    @property
    def _is_away(self) -> bool:
        return time.monotonic() < self._away_until

    async def _ask(self, work: Callable[[], Awaitable[Entry]]) -> Entry | None:
        """What the database says; None where it cannot be reached."""
        if self._is_away:
            return None
        try:
            await self.catch_up()
            answer = await again(work, waits=_WAITS)
        except DatabaseUnavailableError:
            self._away_until = time.monotonic() + _AWAY_SECONDS
            return None
        self._spent_today_nano = answer.spent_today_nano
        return answer

    async def _ask_for_held(self, call_id: str, work: Callable[[], Awaitable[Entry]]) -> Entry | None:
        try:
            return await self._ask(work)
        except DatabaseError as error:
            if error.sqlstate != _UNKNOWN_RESERVATION:
                raise
            if await self._holds(call_id):
                return None
            # It may have been replayed since it was asked for.
            return await self._ask(work)

    async def _reserve(self, held: HeldCall, *, covered_nano: int) -> Entry:
        await run_shielded(asyncio.to_thread(self._spool.reserve, held.call, covered_nano=covered_nano, **_facts(held)))
        return self._later(0)

    async def _append(self, operation: Operation, call_id: str, **facts: Json) -> None:
        await run_shielded(asyncio.to_thread(self._spool.append, operation, call_id, **facts))

    async def _holds(self, call_id: str) -> bool:
        return await asyncio.to_thread(self._spool.holds, call_id)

    def _later(self, cost_nano: int) -> Entry:
        self._spent_today_nano += cost_nano
        return Entry(changed=True, spent_today_nano=self._spent_today_nano)

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[bool]:
        """Whether this is the one that replays; it is over with the process, however that ends."""
        path = self._spool.path.with_name(self._spool.path.name + ".lock")
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone = True
            except BlockingIOError:
                alone = False
            yield alone
        finally:
            os.close(file)


def _facts(held: HeldCall) -> dict[str, Json]:
    return {"limits": [limit.as_json() for limit in held.limits], "hold_seconds": held.hold_seconds}


def _limits(line: SpoolLine) -> list[Limit]:
    return [Limit(**limit) for limit in line["limits"]]


def _made_at(call_id: str) -> datetime:
    """When a call was reserved: its id is a UUID of version 7, whose first 48 bits are milliseconds (RFC 9562 §5.7)."""
    return datetime.fromtimestamp((UUID(call_id).int >> 80) / 1000, UTC)
