"""The reservation of one paid request: opened before anything is sent, grown, closed exactly once.

Every step is carried to its end also when the task is cancelled meanwhile: a reserve that is left alone would be
charged when it expires, and a settlement that is broken off would lose what was paid.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from llm_common._runtime.shielding import run_shielded
from llm_common.exceptions import DatabaseError
from llm_common.ledger.protocol import Ledger
from llm_common.models import Outcome, PlannedCall, Reservation

__all__ = ["PaidCall"]

_log = logging.getLogger(__name__)


class PaidCall:
    """One reservation in `ledger`. Belongs to one request, on one event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        #: What is set aside, in nano-dollars.
        self.reserved_nano = 0
        self._reservation: Reservation | None = None

    @property
    def is_open(self) -> bool:
        return self._reservation is not None

    async def reserve(self, call: PlannedCall) -> None:
        """Set `call.bound_nano` aside. Raises `BudgetExceededError`: then nothing may be sent.

        Cancelled meanwhile, it is given back, because nothing was sent.
        """
        try:
            await self._to_its_end(self._reserve(call))
        except asyncio.CancelledError:
            await self.release()
            raise

    async def extend(self, more_nano: int, *, model: str | None = None, provider: str | None = None) -> None:
        """Set more aside, for `model` where another one is asked now. Raises like `reserve`."""
        await self._to_its_end(self._extend(more_nano, model, provider))

    async def release(self) -> None:
        """Give all of it back: nothing was sent, or what was sent is known to be free."""
        if self._reservation is not None:
            reservation, self._reservation = self._reservation, None
            await self._close(reservation, self.ledger.release(reservation))

    async def settle(self, outcome: Outcome) -> None:
        """Replace what was set aside by the truth."""
        if self._reservation is not None:
            reservation, self._reservation = self._reservation, None
            await self._close(reservation, self.ledger.settle(reservation, outcome))

    async def _reserve(self, call: PlannedCall) -> None:
        self._reservation = await self.ledger.reserve(call)
        self.reserved_nano = call.bound_nano

    async def _extend(self, more_nano: int, model: str | None, provider: str | None) -> None:
        assert self._reservation is not None
        self._reservation = await self.ledger.extend(self._reservation, more_nano, model=model, provider=provider)
        self.reserved_nano += more_nano

    async def _close(self, reservation: Reservation, ending: Coroutine[Any, Any, None]) -> None:
        try:
            await self._to_its_end(ending)
        except DatabaseError as error:
            # A paid answer is not thrown away: the reservation stands, and is charged at its bound when it expires.
            _log.error("call %s was not settled, its reserve will be charged instead: %s", reservation.id, error)

    def _to_its_end(self, work: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
        # A task of its own costs as much CPU as all that a ledger in memory does.
        return run_shielded(work) if self.ledger.waits else work
