"""`SharedLimits`: limits that all processes and machines on one database share.

    llm = LLMClient(limits={"zai": Limits(requests_per_minute=600)}, limiter=SharedLimits(db))

Each request costs a round trip before it is sent, and one afterwards where a slot or tokens were taken. Those of one
event loop who want the same limits wait in line, and only the first in line asks the database: it is told how long to
wait, and asks again then. Between processes it is whoever asks first.
"""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self, cast
from uuid import uuid4

from llm_common._runtime.per_loop import PerLoop
from llm_common._runtime.shielding import run_shielded
from llm_common.db.database import Database, DatabaseSource
from llm_common.db.functions.rate_limits import RateCorrection, RateDemand
from llm_common.exceptions import DatabaseError, DatabaseUnavailableError
from llm_common.llm.limits.local import LocalLimits
from llm_common.llm.limits.rules import (
    WAITING_SHARE,
    Demand,
    LimitName,
    LimitRefusal,
    LimitRequest,
    Permit,
    demands_of,
    limit_refusal,
    out_of_turn,
)

__all__ = ["SharedLimits"]

_log = logging.getLogger(__name__)

#: How long a slot outlives the deadline of its request: time to say that it is over, also on a slow day.
_LEASE_MARGIN = 10.0
#: For a slot, ask again after a tenth of the time waited already.
_POLL_SHARE, _POLL_SECONDS = 0.1, (0.02, 1.0)
#: While the database cannot be reached, it is tried again after so many seconds.
_AWAY_SECONDS = 5.0


@dataclass(slots=True, eq=False)
class _Line:
    """Those of one event loop who want the same limits."""

    front: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0
    #: By key, when the first in line may go at the earliest, as far as requests per minute are concerned.
    free_at: dict[str, float] = field(default_factory=dict[str, float])

    def refusals(self, demands: Sequence[Demand], now: float) -> list[LimitRefusal]:
        """What is known of the wait of one who joins at the end: each who is before it takes a request first."""
        return [
            LimitRefusal(
                demand.key,
                "requests_per_minute",
                int((self.free_at[demand.key] - now) * 1e6) + self.length * demand.requests.us,
            )
            for demand in demands
            if demand.requests is not None and demand.key in self.free_at
        ]


class SharedLimits:
    """Counters in Postgres. `namespace` keeps those apart who share a database but not a provider's account.

    While the database cannot be reached, each process holds to the limits by itself, and one warning says so: too
    many requests are refused by the provider and tried again, which costs less than refusing all work. A slot whose
    process died comes free when the deadline of its request is over.
    """

    def __init__(self, database: DatabaseSource, *, namespace: str = "default") -> None:
        self._db = Database.of(database)
        self._db_is_ours = not isinstance(database, Database)
        self._functions = self._db.rate_limits
        self._namespace = namespace
        self._alone = LocalLimits()
        self._lines = PerLoop(dict[tuple[str, ...], _Line])
        self._away_until = 0.0
        self._warned = False

    async def acquire(self, claim: LimitRequest, *, patience: float) -> Permit:
        """See `Limiter.acquire`. Raises `MigrationError` where the database lacks our schema."""
        ends = time.monotonic() + patience
        try:
            if permit := await self._in_line(claim, ends):
                self._warned = False
                return permit
        except DatabaseUnavailableError as error:
            self._lost(error)
        return await self._alone.acquire(claim, patience=max(0.0, ends - time.monotonic()))

    async def aclose(self) -> None:
        """Close the connections made here. A `Database` that was passed in is its owner's to close."""
        if self._db_is_ours:
            await self._db.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def _is_away(self) -> bool:
        return time.monotonic() < self._away_until

    async def _in_line(self, claim: LimitRequest, ends: float) -> Permit | None:
        """None: the database is away."""
        if self._is_away:
            return None
        demands = demands_of(claim)
        lines = self._lines.get()
        keys = tuple(demand.key for demand in demands)
        line = lines.setdefault(keys, _Line())
        began = time.monotonic()
        known = line.refusals(demands, began)
        if any(refusal.wait_us is not None and refusal.wait_us > (ends - began) * 1e6 for refusal in known):
            raise limit_refusal(claim, known, ends - began)
        line.length += 1
        try:
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + ends - began):
                    await line.front.acquire()
            except TimeoutError:
                raise limit_refusal(claim, known or out_of_turn(demands), ends - began) from None
            try:
                return await self._at_the_front(line, claim, demands, began, ends)
            finally:
                line.free_at.clear()
                line.front.release()
        finally:
            line.length -= 1
            if not line.length:
                lines.pop(keys, None)

    async def _at_the_front(
        self, line: _Line, claim: LimitRequest, demands: tuple[Demand, ...], began: float, ends: float
    ) -> Permit | None:
        deadline = began + (ends - began) / WAITING_SHARE
        # The one before may have found out that the database is away.
        while not self._is_away:
            permit = _SharedPermit(self, str(uuid4()), demands)
            refusals = await self._take(permit, deadline - time.monotonic() + _LEASE_MARGIN)
            if not refusals:
                return permit
            now = time.monotonic()
            waits = [refusal.wait_us / 1e6 for refusal in refusals if refusal.wait_us is not None]
            if now >= ends or max(waits, default=0.0) > ends - now:
                raise limit_refusal(claim, refusals, max(0.0, ends - now))
            line.free_at = {
                refusal.key: now + refusal.wait_us / 1e6
                for refusal in refusals
                if refusal.limit == "requests_per_minute" and refusal.wait_us is not None
            }
            if len(waits) < len(refusals):
                shortest, longest = _POLL_SECONDS
                waits.append(min(longest, max(shortest, (now - began) * _POLL_SHARE)))
            # Up to a tenth longer: the firsts in line of several processes must not all come back at once.
            await asyncio.sleep(min(max(waits) * random.uniform(1.0, 1.1), ends - now))  # noqa: S311
        return None

    async def _take(self, permit: "_SharedPermit", lease_seconds: float) -> list[LimitRefusal]:
        answers: list[list[LimitRefusal]] = []

        async def take() -> None:
            demands = [_as_rows(demand) for demand in permit.demands]
            found = await self._functions.take(self._namespace, permit.id, demands, lease_seconds=lease_seconds)
            answers.append([LimitRefusal(row.key, cast("LimitName", row.limit), row.wait_us) for row in found])

        try:
            await run_shielded(take())
        except asyncio.CancelledError:
            if answers and not answers[0]:
                await permit.give_back()
            raise
        return answers[0]

    async def end(self, permit_id: str, corrections: Sequence[RateCorrection]) -> None:
        """Tell that a request is over. Its answer does not hang on that: what fails is logged."""
        try:
            await run_shielded(self._functions.end(self._namespace, permit_id, corrections))
        except DatabaseUnavailableError as error:
            self._lost(error)
        except DatabaseError as error:
            _log.error("the end of a limited request was not recorded, its slots end by themselves: %s", error)

    def _lost(self, error: DatabaseUnavailableError) -> None:
        self._away_until = time.monotonic() + _AWAY_SECONDS
        if not self._warned:
            self._warned = True
            _log.warning("shared limits cannot be looked at, so each process holds to them by itself: %s", error)


@dataclass(frozen=True, slots=True)
class _SharedPermit:
    limits: SharedLimits
    id: str
    demands: tuple[Demand, ...]

    async def end(self, tokens: int | None) -> None:
        corrections = [
            RateCorrection(demand.key, tokens_us=0 if tokens is None else demand.correction(tokens))
            for demand in self.demands
        ]
        holds = any(demand.concurrency is not None for demand in self.demands)
        if holds or any(correction.tokens_us for correction in corrections):
            await self.limits.end(self.id, corrections)

    async def give_back(self) -> None:
        corrections = [
            RateCorrection(
                demand.key,
                -demand.requests.us if demand.requests else 0,
                -demand.tokens.us if demand.tokens else 0,
            )
            for demand in self.demands
        ]
        await self.limits.end(self.id, corrections)


def _as_rows(demand: Demand) -> RateDemand:
    requests, tokens = demand.requests, demand.tokens
    return RateDemand(
        key=demand.key,
        concurrency=demand.concurrency,
        requests_us=None if requests is None else requests.us,
        requests_spare_us=None if requests is None else requests.spare_us,
        tokens_us=None if tokens is None else tokens.us,
        tokens_spare_us=None if tokens is None else tokens.spare_us,
    )
