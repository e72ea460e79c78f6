"""What a client needs of a ledger, and how budgets bind a call.

A paid call passes the ledger twice: `reserve` before anything is sent, then exactly one of `settle` (the
truth, also for a failed or cancelled call that may have cost something) or `release` (nothing was sent).
`CostTracker` is the ledger that records in Postgres, `LocalLedger` the one for processes without a database.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Protocol, runtime_checkable

from llm_common.models import Budget, Outcome, PlannedCall, Reservation
from llm_common.money import to_nano

__all__ = ["Ledger", "RecordingLedger", "budgets_that_bind", "resets_at"]


class Ledger(Protocol):
    """Reserve the worst case, then settle the truth. Safe to call from many tasks at once."""

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets that this ledger holds every call to."""
        ...

    @property
    def wants_answer(self) -> bool:
        """Whether `settle` of an ok call needs its answer's text, to store it in the same transaction."""
        ...

    @property
    def waits(self) -> bool:
        """Whether its methods may wait for anything. What never does cannot be interrupted, and is awaited as it is."""
        ...

    @property
    def spent_today_nano(self) -> int:
        """The project's spend of today as of the last call through this ledger, in nano-dollars."""
        ...

    async def reserve(self, call: PlannedCall) -> Reservation:
        """Set `call.bound_nano` aside. Raises `BudgetExceededError`, and then nothing changed."""
        ...

    async def extend(
        self, reservation: Reservation, more_nano: int, *, model: str | None = None, provider: str | None = None
    ) -> Reservation:
        """Set more aside for another attempt after one that may have been paid. Raises like `reserve`.

        With `model`, that one is asked now: all that is set aside must fit its budgets as well.
        """
        ...

    async def settle(self, reservation: Reservation, outcome: Outcome) -> None:
        """Replace the reserve by the truth and write the row. A second settlement changes nothing."""
        ...

    async def release(self, reservation: Reservation) -> None:
        """Give the reserve back: it is known that nothing was sent."""
        ...


@runtime_checkable
class RecordingLedger(Ledger, Protocol):
    """A ledger that also writes down what was paid without a reserve. The same idempotency key is written once."""

    async def record(self, call: PlannedCall, outcome: Outcome) -> None: ...


def budgets_that_bind(call: PlannedCall, budgets: tuple[Budget, ...]) -> dict[tuple[str, str], int]:
    """The limits in nano-dollars that one call must fit, by (scope key, window); the strictest of each wins."""
    limits: dict[tuple[str, str], int] = {}
    for budget in (*budgets, *call.budgets):
        for key in _scope_keys(call, budget):
            limit = to_nano(budget.limit_usd)
            limits[key, budget.window] = min(limit, limits.get((key, budget.window), limit))
    return limits


def resets_at(window: str, starts: date) -> datetime | None:
    """When a UTC window that starts on a day gives way to the next; None for one that never does."""
    if window == "total":
        return None
    following = starts + timedelta(days=1 if window == "day" else 31)
    if window == "month":
        following = following.replace(day=1)
    return datetime.combine(following, time(), UTC)


def _scope_keys(call: PlannedCall, budget: Budget) -> list[str]:
    if budget.scope == "project":
        return ["project"]
    if budget.scope == "tag":
        values = [f"{name}={value}" for name, value in call.tags.items()]
    else:
        one = {"user": call.user_id, "model": call.model, "run": call.run_id}[budget.scope]
        values = [] if one is None else [one]
    return [f"{budget.scope}:{value}" for value in values if budget.value in (None, value)]
