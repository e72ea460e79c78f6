"""How a tracker writes to its ledger: straight into the database, or (ledger/spooled.py) with a file beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from llm_common.db.functions.ledger import Entry, LedgerFunctions, Limit
from llm_common.db.retry import again
from llm_common.db.transport import Json

__all__ = ["DirectWrites", "HeldCall", "LedgerWrites"]

# Seconds between tries. Before a call somebody waits; after one, money hangs on it.
_BEFORE = (0.1, 0.4)
_AFTER = (0.25, 1.0, 2.5, 6.0)


@dataclass(frozen=True, slots=True)
class HeldCall:
    """A call with all that is needed to reserve it. `call` is of `planned_json`; `bound_nano` is what it has now."""

    call: Mapping[str, Json]
    limits: Sequence[Limit]
    hold_seconds: float
    bound_nano: int

    @property
    def id(self) -> str:
        return str(self.call["id"])


class LedgerWrites(Protocol):
    """Every change of the ledger. Each may be repeated without harm; errors are those of `LedgerFunctions`."""

    async def reserve(self, held: HeldCall) -> Entry: ...

    async def extend(
        self, held: HeldCall, more_nano: int, *, extension_id: str, model: str | None, provider: str | None
    ) -> Entry:
        """`held` is the call as it is after the extension."""
        ...

    async def settle(self, held: HeldCall, outcome: Mapping[str, Json]) -> Entry: ...

    async def release(self, reservation_id: str) -> None: ...

    async def give_back(self, reservation_id: str) -> None:
        """Release what may or may not be reserved, without patience."""
        ...

    async def record(self, row: Mapping[str, Json], limits: Sequence[Limit]) -> Entry: ...

    async def catch_up(self) -> None:
        """Bring what waits into the database, unless somebody else does."""
        ...

    async def replay(self) -> int:
        """Bring what waits into the database; gives the number of its lines."""
        ...


class DirectWrites:
    """Into the database or not at all. Tries again while it cannot be reached: 0.5 s before a call, 10 s after it."""

    def __init__(self, functions: LedgerFunctions) -> None:
        self._functions = functions

    async def reserve(self, held: HeldCall) -> Entry:
        return await again(
            lambda: self._functions.reserve(held.call, held.limits, hold_seconds=held.hold_seconds), waits=_BEFORE
        )

    async def extend(
        self, held: HeldCall, more_nano: int, *, extension_id: str, model: str | None, provider: str | None
    ) -> Entry:
        return await again(
            lambda: self._functions.extend(
                held.id, more_nano, extension_id=extension_id, model=model, provider=provider, limits=held.limits
            ),
            waits=_BEFORE,
        )

    async def settle(self, held: HeldCall, outcome: Mapping[str, Json]) -> Entry:
        return await again(lambda: self._functions.settle(held.id, outcome), waits=_AFTER)

    async def release(self, reservation_id: str) -> None:
        await again(lambda: self._functions.release(reservation_id), waits=_AFTER)

    async def give_back(self, reservation_id: str) -> None:
        await self._functions.release(reservation_id)

    async def record(self, row: Mapping[str, Json], limits: Sequence[Limit]) -> Entry:
        return await again(lambda: self._functions.record(row, limits), waits=_AFTER)

    async def catch_up(self) -> None:
        """Nothing waits."""

    async def replay(self) -> int:
        return 0
