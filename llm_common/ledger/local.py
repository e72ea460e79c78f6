"""`LocalLedger`: budgets within one process, for those who have no database. Nothing is recorded."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from uuid import uuid4

from llm_common._runtime.fork import fork_safe_lock
from llm_common.exceptions import DatabaseError
from llm_common.ledger.protocol import budgets_that_bind, resets_at
from llm_common.models import Budget, Outcome, PlannedCall, Reservation
from llm_common.money import budget_refusal

__all__ = ["LocalLedger"]

#: Scope key, window, first day.
_Key = tuple[str, str, date]

_EVER = date.min


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Window:
    reserved_nano: int = 0
    spent_nano: int = 0


@dataclass(slots=True)
class _Hold:
    """Calls in flight: what they set aside, in which windows, since when. `model` is the one asked last.

    Whoever does not settle within `seconds` after that is taken for dead.
    """

    model: str
    day: date
    bound_nano: int
    limits: dict[_Key, int]
    windows: tuple[_Key, ...]
    grown_at: datetime
    seconds: float

    def is_over(self, now: datetime) -> bool:
        return self.grown_at + timedelta(seconds=self.seconds) < now

    def take_in(self, limits: dict[_Key, int]) -> None:
        self.limits = {**self.limits, **limits}
        self.windows = (*self.windows, *limits)


class LocalLedger:
    """Budgets for all calls through this object, from any thread or event loop, in UTC windows.

    A window of a user, model, run or tag counts from the first call that such a budget binds. Windows that are
    over are forgotten, so memory stays flat, save for `total` windows, which never end. `now` gives aware datetimes.
    """

    wants_answer = False
    waits = False

    def __init__(self, budgets: Sequence[Budget] = (), *, now: Callable[[], datetime] = _now) -> None:
        self._budgets = tuple(budgets)
        self._now = now
        self._guard = fork_safe_lock()
        self._windows: dict[_Key, _Window] = {}
        self._holds: dict[str, _Hold] = {}
        #: How many times their listed price providers bill, by provider and model, where it is more.
        self._factors: dict[tuple[str, str], float] = {}
        # A prefix of its own and a number: as unique as a UUID for each call, without the system's randomness for it.
        self._prefix, self._numbers = uuid4().hex, count(1)
        self._today = now().astimezone(UTC).date()
        self._always = _project_windows(self._today)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        return self._budgets

    @property
    def spent_today_nano(self) -> int:
        """What was spent today (UTC) through this object, in nano-dollars."""
        with self._guard:
            window = self._windows.get(("project", "day", self._now().astimezone(UTC).date()))
            return 0 if window is None else window.spent_nano

    async def reserve(self, call: PlannedCall) -> Reservation:
        """Set `call.bound_nano` aside. Raises `BudgetExceededError`, and then nothing changed."""
        with self._guard:
            now = self._now().astimezone(UTC)
            if now.date() != self._today:
                self._turn_over(now)
            limits = {
                (scope, window, _starts(window, self._today)): nano
                for (scope, window), nano in budgets_that_bind(call, self._budgets).items()
            }
            bound_nano = self._true_bound(call, call.bound_nano)
            self._check(limits, bound_nano)
            hold = _Hold(
                model=call.model,
                day=self._today,
                bound_nano=0,
                limits=limits,
                windows=(*self._always, *[key for key in limits if key not in self._always]),
                grown_at=now,
                seconds=call.hold_seconds,
            )
            self._grow(hold, bound_nano, now)
            reservation = Reservation(f"{self._prefix}-{next(self._numbers)}", call)
            self._holds[reservation.id] = hold
            return reservation

    async def extend(
        self, reservation: Reservation, more_nano: int, *, model: str | None = None, provider: str | None = None
    ) -> Reservation:
        """Set more aside. Raises `BudgetExceededError`; what was set aside before stays so.

        With `model`, that one is asked now: all that is set aside must fit its budgets as well.
        """
        grown = reservation.call.grown(more_nano, model=model, provider=provider)
        with self._guard:
            hold = self._holds.get(reservation.id)
            if hold is None:
                raise DatabaseError(f"reservation {reservation.id} cannot be extended: it was settled or released")
            added = {
                (scope, window, _starts(window, hold.day)): nano
                for (scope, window), nano in budgets_that_bind(grown, self._budgets).items()
                if scope == f"model:{grown.model}" and (scope, window, _starts(window, hold.day)) not in hold.limits
            }
            more_nano = self._true_bound(grown, more_nano)
            self._check(hold.limits, more_nano)
            # To the budgets of another model, all of it is new.
            self._check(added, hold.bound_nano + more_nano)
            self._grow(hold, more_nano, self._now().astimezone(UTC))
            hold.take_in(added)
            hold.model = grown.model
            for key in added:
                self._windows.setdefault(key, _Window()).reserved_nano += hold.bound_nano
        return replace(reservation, call=grown)

    async def settle(self, reservation: Reservation, outcome: Outcome) -> None:
        """Replace the reserve by the truth. A second settlement changes nothing."""
        if outcome.listed_nano and outcome.cost_nano > 1.01 * outcome.listed_nano:
            factor = outcome.cost_nano / outcome.listed_nano
            payee = (outcome.provider, outcome.model)
            with self._guard:
                self._factors[payee] = max(factor, self._factors.get(payee, 1.0))
        self._close(reservation.id, outcome.cost_nano, outcome.model)

    async def release(self, reservation: Reservation) -> None:
        """Give the reserve back: it is known that nothing was sent."""
        self._close(reservation.id, 0, reservation.call.model)

    async def record(self, call: PlannedCall, outcome: Outcome) -> None:
        """Count a call that needed no reserve. It is never refused."""
        reservation = await self.reserve(replace(call, bound_nano=0))
        await self.settle(reservation, outcome)

    def _true_bound(self, call: PlannedCall, listed_nano: int) -> int:
        """A bound by the listed price as what it really comes to."""
        factor = self._factors.get((call.provider, call.model))
        return listed_nano if factor is None else math.ceil(listed_nano * factor)

    def _check(self, limits: dict[_Key, int], more_nano: int) -> None:
        if not more_nano:
            return
        for (scope, window, starts), limit in limits.items():
            counted = self._windows.get((scope, window, starts), _Window())
            if counted.spent_nano + counted.reserved_nano + more_nano > limit:
                resets = resets_at(window, starts)
                raise budget_refusal(
                    budget=f"{scope}/{window}",
                    limit_nano=limit,
                    spent_nano=counted.spent_nano,
                    reserved_nano=counted.reserved_nano,
                    requested_nano=more_nano,
                    resets_at=resets,
                    seconds_left=None if resets is None else (resets - self._now()).total_seconds(),
                )

    def _grow(self, hold: _Hold, more_nano: int, now: datetime) -> None:
        hold.bound_nano += more_nano
        hold.grown_at = now
        for key in hold.windows:
            window = self._windows.get(key)
            if window is None:
                window = self._windows[key] = _Window()
            window.reserved_nano += more_nano

    def _close(self, reservation_id: str, cost_nano: int, model: str) -> None:
        with self._guard:
            hold = self._holds.pop(reservation_id, None)
            if hold is not None:
                self._count(hold, cost_nano, model)

    def _count(self, hold: _Hold, cost_nano: int, model: str) -> None:
        """Of the windows of several models, only those of the one that was paid count the cost."""
        for key in hold.windows:
            window = self._windows.get(key)
            if window is not None:
                window.reserved_nano -= hold.bound_nano
                if not key[0].startswith("model:") or key[0] == f"model:{model}":
                    window.spent_nano += cost_nano

    def _turn_over(self, now: datetime) -> None:
        """On a new day, forget what is over, and charge what nobody settled in its time."""
        self._today = now.date()
        self._always = _project_windows(self._today)
        for reservation_id, hold in list(self._holds.items()):
            if hold.is_over(now):
                self._count(hold, hold.bound_nano, hold.model)
                del self._holds[reservation_id]
        held = {key for hold in self._holds.values() for key in hold.windows}
        self._windows = {
            key: window for key, window in self._windows.items() if key in held or _is_current(key, self._today)
        }


def _project_windows(today: date) -> tuple[_Key, ...]:
    return tuple(("project", window, _starts(window, today)) for window in ("day", "month", "total"))


def _is_current(key: _Key, today: date) -> bool:
    return key[2] == _starts(key[1], today)


def _starts(window: str, today: date) -> date:
    return {"day": today, "month": today.replace(day=1), "total": _EVER}[window]
