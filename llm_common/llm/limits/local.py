"""`LocalLimits`: the counters of one process, shared by its tasks, event loops and threads.

Who cannot go at once waits in a lane with those who want the same limits; each lane is served first come, first
served. Between lanes the older waiter comes first on every limit that it lacks or ever lacked; on its other limits
others may pass it, so that a slow model does not hold up its whole provider. Nobody polls: whoever ends a request lets
the next go, and one timer waits for the next refill.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from llm_common._runtime.fork import fork_safe_lock
from llm_common.llm.limits.rules import (
    Demand,
    LimitRefusal,
    LimitRequest,
    Permit,
    demands_of,
    limit_refusal,
    out_of_turn,
    wait_for,
)

__all__ = ["LocalLimits"]


def _monotonic_us() -> int:
    return time.monotonic_ns() // 1000


@dataclass(slots=True)
class _Meter:
    """What has been taken under one key. The moments are when its buckets are full again."""

    in_use: int = 0
    requests_full_at: int = 0
    tokens_full_at: int = 0

    def refusals(self, demand: Demand, now: int, ahead: "_Ahead") -> list[LimitRefusal]:
        """Why `demand` cannot be met now, if those who are `ahead` go first."""
        found: list[LimitRefusal] = []
        if demand.concurrency is not None and self.in_use >= demand.concurrency:
            found.append(LimitRefusal(demand.key, "concurrency", None))
        if demand.requests is not None:
            full_at = max(self.requests_full_at, now) + ahead.requests_us
            if wait := wait_for(demand.requests, full_at, now):
                found.append(LimitRefusal(demand.key, "requests_per_minute", wait))
        if demand.tokens is not None:
            full_at = max(self.tokens_full_at, now) + ahead.tokens_us
            if wait := wait_for(demand.tokens, full_at, now):
                found.append(LimitRefusal(demand.key, "tokens_per_minute", wait))
        return found

    def take(self, demand: Demand, now: int) -> None:
        self.in_use += 1
        if demand.requests is not None:
            self.requests_full_at = max(self.requests_full_at, now) + demand.requests.us
        if demand.tokens is not None:
            self.tokens_full_at = max(self.tokens_full_at, now) + demand.tokens.us

    def end(self, demand: Demand, tokens: int | None) -> None:
        self.in_use -= 1
        if tokens is not None:
            self.tokens_full_at += demand.correction(tokens)

    def give_back(self, demand: Demand) -> None:
        self.in_use -= 1
        self.requests_full_at -= demand.requests.us if demand.requests else 0
        self.tokens_full_at -= demand.tokens.us if demand.tokens else 0


@dataclass(slots=True)
class _Ahead:
    """What those take together, under one key, who wait in one lane."""

    requests_us: int = 0
    tokens_us: int = 0

    def add(self, demand: Demand, sign: int) -> None:
        self.requests_us += sign * demand.requests.us if demand.requests else 0
        self.tokens_us += sign * demand.tokens.us if demand.tokens else 0


_NOBODY = _Ahead()


@dataclass(slots=True, eq=False)
class _Waiter:
    ticket: int
    demands: tuple[Demand, ...]
    loop: asyncio.AbstractEventLoop
    turn: "asyncio.Future[None]"
    #: The keys that it lacked at any time: there, nobody younger passes it.
    lacked: set[str] = field(default_factory=set[str])
    granted: bool = False


@dataclass(slots=True, eq=False)
class _Lane:
    waiters: "OrderedDict[int, _Waiter]" = field(default_factory=OrderedDict[int, _Waiter])
    ahead: dict[str, _Ahead] = field(default_factory=dict[str, _Ahead])

    @property
    def first(self) -> _Waiter:
        return next(iter(self.waiters.values()))

    def join(self, waiter: _Waiter) -> None:
        self.waiters[waiter.ticket] = waiter
        for demand in waiter.demands:
            self.ahead.setdefault(demand.key, _Ahead()).add(demand, 1)

    def leave(self, waiter: _Waiter) -> None:
        del self.waiters[waiter.ticket]
        for demand in waiter.demands:
            self.ahead[demand.key].add(demand, -1)


@dataclass(frozen=True, slots=True, eq=False)
class _Alarm:
    """A timer for the next refill, on the loop of the waiter that it is for."""

    due: int
    waiter: _Waiter


class LocalLimits:
    """Counters in this process. Give the same object to several clients to let them share their limits.

    `clock` gives microseconds that only rise.
    """

    def __init__(self, *, clock: Callable[[], int] = _monotonic_us) -> None:
        self._clock = clock
        self._guard = fork_safe_lock()
        self._meters: dict[str, _Meter] = {}
        self._lanes: dict[tuple[str, ...], _Lane] = {}
        self._tickets = 0
        self._alarm: _Alarm | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait now."""
        with self._guard:
            return sum(len(lane.waiters) for lane in self._lanes.values())

    def in_flight(self, key: str) -> int:
        """How many requests under a key were let go and have not ended."""
        with self._guard:
            return self._meters.get(key, _Meter()).in_use

    async def acquire(self, claim: LimitRequest, *, patience: float) -> Permit:
        """See `Limiter.acquire`."""
        demands = demands_of(claim)
        permit = _LocalPermit(self, demands)
        with self._guard:
            now = self._clock()
            if not self._lanes and not self._lacking(demands, now):
                self._take(demands, now)
                return permit
            lane = self._lanes.setdefault(_keys(demands), _Lane())
            in_line = self._lacking(demands, now, lane)
            if any(refusal.wait_us is not None and refusal.wait_us > patience * 1e6 for refusal in in_line):
                self._close_if_empty(demands)
                raise limit_refusal(claim, in_line, patience)
            waiter = self._join(lane, demands)
            self._admit(now)
        try:
            async with asyncio.timeout(patience):
                await waiter.turn
        except TimeoutError:
            lacking = self._leave(waiter)
            raise limit_refusal(claim, lacking, patience) from None
        except BaseException:
            self._leave(waiter)
            raise
        return permit

    def end(self, demands: Sequence[Demand], tokens: int | None) -> None:
        with self._guard:
            for demand in demands:
                self._meters[demand.key].end(demand, tokens)
            self._admit(self._clock())

    def give_back(self, demands: Sequence[Demand]) -> None:
        with self._guard:
            self._give_back(demands)
            self._admit(self._clock())

    # ── under the guard ──────────────────────────────────────────────────────────────────────────────────────────

    def _meter(self, key: str) -> _Meter:
        return self._meters.setdefault(key, _Meter())

    def _lacking(self, demands: Sequence[Demand], now: int, behind: _Lane | None = None) -> list[LimitRefusal]:
        return [
            refusal
            for demand in demands
            for refusal in self._meter(demand.key).refusals(
                demand, now, _NOBODY if behind is None else behind.ahead.get(demand.key, _NOBODY)
            )
        ]

    def _take(self, demands: Sequence[Demand], now: int) -> None:
        for demand in demands:
            self._meter(demand.key).take(demand, now)

    def _give_back(self, demands: Sequence[Demand]) -> None:
        for demand in demands:
            self._meters[demand.key].give_back(demand)

    def _join(self, lane: _Lane, demands: tuple[Demand, ...]) -> _Waiter:
        loop = asyncio.get_running_loop()
        self._tickets += 1
        waiter = _Waiter(self._tickets, demands, loop, loop.create_future())
        lane.join(waiter)
        return waiter

    def _leave(self, waiter: _Waiter) -> list[LimitRefusal]:
        """Give up waiting, and give back what was granted meanwhile; says what was lacking."""
        with self._guard:
            now = self._clock()
            if waiter.granted:
                self._give_back(waiter.demands)
            lacking = self._lacking(waiter.demands, now)
            if not waiter.granted:
                self._remove(waiter)
            self._admit(now)
        # A limit that is free itself may still be an older waiter's turn.
        return lacking or out_of_turn(waiter.demands)

    def _remove(self, waiter: _Waiter) -> None:
        self._lanes[_keys(waiter.demands)].leave(waiter)
        self._close_if_empty(waiter.demands)
        if self._alarm is not None and self._alarm.waiter is waiter:
            self._alarm = None

    def _close_if_empty(self, demands: Sequence[Demand]) -> None:
        keys = _keys(demands)
        if not self._lanes[keys].waiters:
            del self._lanes[keys]

    def _admit(self, now: int) -> None:
        """Let go all who can, oldest first; see to it that somebody looks again at the next refill."""
        if not self._lanes:
            return
        contested: set[str] = set()
        passed_over: set[int] = set()
        due: tuple[int, _Waiter] | None = None
        while firsts := [lane.first for lane in self._lanes.values() if lane.first.ticket not in passed_over]:
            waiter = min(firsts, key=lambda first: first.ticket)
            lacking = self._lacking(waiter.demands, now)
            waiter.lacked.update(refusal.key for refusal in lacking)
            behind = contested.intersection(demand.key for demand in waiter.demands)
            if not lacking and not behind:
                self._grant(waiter, now)
                continue
            passed_over.add(waiter.ticket)
            contested |= waiter.lacked
            waits = [refusal.wait_us for refusal in lacking if refusal.wait_us is not None]
            if waits and (due is None or now + max(waits) < due[0]):
                due = (now + max(waits), waiter)
        if due is not None and (self._alarm is None or due[0] < self._alarm.due):
            self._set_alarm(*due, now)

    def _grant(self, waiter: _Waiter, now: int) -> None:
        self._remove(waiter)
        try:
            waiter.loop.call_soon_threadsafe(_wake, waiter.turn)
        except RuntimeError:
            return  # its loop was closed over its head: nobody is there to use what it would take
        waiter.granted = True
        self._take(waiter.demands, now)

    def _set_alarm(self, due: int, waiter: _Waiter, now: int) -> None:
        alarm = _Alarm(due, waiter)
        # A loop's timer may be early by its clock's resolution; looking once more is cheaper than spinning.
        delay = max(0.001, (due - now) / 1e6)
        try:
            waiter.loop.call_soon_threadsafe(waiter.loop.call_later, delay, self._ring, alarm)
        except RuntimeError:
            self._remove(waiter)
            self._admit(now)
        else:
            self._alarm = alarm

    def _ring(self, alarm: _Alarm) -> None:
        with self._guard:
            if self._alarm is alarm:
                self._alarm = None
                self._admit(self._clock())


@dataclass(frozen=True, slots=True)
class _LocalPermit:
    limits: LocalLimits
    demands: tuple[Demand, ...]

    async def end(self, tokens: int | None) -> None:
        self.limits.end(self.demands, tokens)

    async def give_back(self) -> None:
        self.limits.give_back(self.demands)


def _keys(demands: Sequence[Demand]) -> tuple[str, ...]:
    return tuple(demand.key for demand in demands)


def _wake(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)
