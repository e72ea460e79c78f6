"""A ledger that lets searches go on while its database is away, and writes them down when it is back."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from llm_common._runtime.outage import Outage
from llm_common.exceptions import DatabaseError, InvalidInputError
from llm_common.ledger.local import LocalLedger
from llm_common.ledger.protocol import RecordingLedger
from llm_common.models import Budget, Outcome, PlannedCall, Reservation
from llm_common.money import format_usd, to_usd

__all__ = ["OutageLedger"]

_log = logging.getLogger(__name__)

_MAX_OWED = 1_000


@dataclass(frozen=True, slots=True)
class _Owed:
    """A row that the database has yet to take. Writing it twice does no harm."""

    write: Callable[[], Coroutine[Any, Any, None]]
    model: str
    calls: int
    cost_nano: int


class OutageLedger:
    """Wraps a ledger without budgets. With budgets it would be wrong: they are a promise that only the database keeps.

    What was paid meanwhile waits in this process, and is lost only if the process dies before the database is back.
    `aclose` tries once more.
    """

    wants_answer = False
    waits = True

    def __init__(self, ledger: RecordingLedger, outage: Outage) -> None:
        self._ledger = ledger
        self._outage = outage
        self._stand_in = LocalLedger()
        self._standing_in: set[str] = set()
        self._owed: deque[_Owed] = deque()

    @property
    def budgets(self) -> tuple[Budget, ...]:
        return self._ledger.budgets

    @property
    def spent_today_nano(self) -> int:
        return self._ledger.spent_today_nano + sum(owed.cost_nano for owed in self._owed)

    async def reserve(self, call: PlannedCall) -> Reservation:
        try:
            return await self._outage.call(lambda: self._ledger.reserve(call))
        except DatabaseError:
            reservation = await self._stand_in.reserve(call)
            self._standing_in.add(reservation.id)
            return reservation

    async def extend(
        self, reservation: Reservation, more_nano: int, *, model: str | None = None, provider: str | None = None
    ) -> Reservation:
        if reservation.id in self._standing_in:
            return await self._stand_in.extend(reservation, more_nano, model=model, provider=provider)
        try:
            return await self._outage.call(
                lambda: self._ledger.extend(reservation, more_nano, model=model, provider=provider)
            )
        except DatabaseError:
            # No budget can refuse it, and the truth is written by `settle`.
            return reservation

    async def settle(self, reservation: Reservation, outcome: Outcome) -> None:
        if reservation.id in self._standing_in:
            self._standing_in.discard(reservation.id)
            await self._stand_in.settle(reservation, outcome)
            self._owe(lambda: self._ledger.record(reservation.call, outcome), reservation.call, outcome)
            return
        try:
            await self._outage.call(lambda: self._ledger.settle(reservation, outcome))
        except DatabaseError:
            self._owe(lambda: self._ledger.settle(reservation, outcome), reservation.call, outcome)
        else:
            await self.catch_up()

    async def release(self, reservation: Reservation) -> None:
        if reservation.id in self._standing_in:
            self._standing_in.discard(reservation.id)
            await self._stand_in.release(reservation)
        else:
            await self._outage.call(lambda: self._ledger.release(reservation))

    async def record(self, call: PlannedCall, outcome: Outcome) -> None:
        try:
            await self._outage.call(lambda: self._ledger.record(call, outcome))
        except DatabaseError:
            self._owe(lambda: self._ledger.record(call, outcome), call, outcome)

    async def catch_up(self) -> None:
        """Write down what was paid while the database was away, as far as it takes it now."""
        await self._write_down(self._outage.call)

    async def aclose(self) -> None:
        """Write it down although the database failed a moment ago; what it does not take even now is told."""
        await self._write_down(self._outage.last_call)
        if self._owed:
            paid = format_usd(to_usd(sum(owed.cost_nano for owed in self._owed)))
            calls = sum(owed.calls for owed in self._owed)
            _log.error(
                "%d searches and cache hits, %s, are not in the ledger, and are lost if the process ends now: "
                "the database did not take them while the client was closed either",
                calls,
                paid,
            )

    async def _write_down(self, call: Callable[[Callable[[], Coroutine[Any, Any, None]]], Awaitable[None]]) -> None:
        while self._owed:
            owed = self._owed.popleft()
            try:
                await call(owed.write)
            except DatabaseError:
                self._owed.appendleft(owed)
                return
            except asyncio.CancelledError:
                self._owed.appendleft(owed)
                raise
            except InvalidInputError as error:
                # The reserve had arrived after all: it is charged when it expires.
                _log.info("a search is in the ledger already: %s", error)

    def _owe(self, write: Callable[[], Coroutine[Any, Any, None]], call: PlannedCall, outcome: Outcome) -> None:
        self._owed.append(_Owed(write, call.model, outcome.calls, outcome.cost_nano))
        if len(self._owed) > _MAX_OWED:
            lost = self._owed.popleft()
            cost = format_usd(to_usd(lost.cost_nano))
            _log.error("%s paid for %s will be in no ledger: too much waits already", cost, lost.model)
