"""Budgets within one process."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.exceptions import BudgetExceededError, DatabaseError
from llm_common.ledger.local import LocalLedger
from llm_common.ledger.protocol import Ledger
from llm_common.models import Budget, Outcome, PlannedCall, Reservation

T = TypeVar("T")
_NANO = Decimal("0.000000001")


class Clock:
    def __init__(self, *now: int) -> None:
        self.now = datetime(*now, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def call(bound: int = 10, user: str | None = None, **other: object) -> PlannedCall:
    return PlannedCall(kind="chat", model="m", provider="p", bound_nano=bound, user_id=user, **other)


def cost(nano: int) -> Outcome:
    return Outcome(model="m", provider="p", cost_nano=nano, price_source="map", status="ok")


def limit(nano: int, window: str = "day", scope: str = "project") -> Budget:
    return Budget(nano * _NANO, window, scope)


async def spend(ledger: Ledger, bound: int, actual: int, **other: object) -> Reservation:
    reservation = await ledger.reserve(call(bound, **other))
    await ledger.settle(reservation, cost(actual))
    return reservation


async def test_the_worst_case_is_held_until_the_truth_is_known():
    """A reserve takes room that the settlement gives back down to the truth."""
    ledger = LocalLedger([limit(100)])
    reservation = await ledger.reserve(call(60))
    with pytest.raises(BudgetExceededError) as refused:
        await ledger.reserve(call(41))
    assert refused.value.budget == "project/day"
    assert refused.value.reserved_usd == 60 * _NANO
    await ledger.settle(reservation, cost(5))
    await ledger.reserve(call(95))
    assert ledger.spent_today_nano == 5


async def test_settling_twice_changes_nothing():
    """The second settlement, and a release after it, are without effect."""
    ledger = LocalLedger()
    reservation = await spend(ledger, 10, 7)
    await ledger.settle(reservation, cost(100))
    await ledger.release(reservation)
    assert ledger.spent_today_nano == 7


async def test_a_release_gives_everything_back():
    """What was not sent costs nothing."""
    ledger = LocalLedger([limit(10)])
    await ledger.release(await ledger.reserve(call(10)))
    await ledger.reserve(call(10))
    assert ledger.spent_today_nano == 0


async def test_an_extension_is_held_to_the_limit():
    """More is set aside up to the limit; a refused extension leaves the first reserve as it was."""
    ledger = LocalLedger([limit(30)])
    reservation = await ledger.extend(await ledger.reserve(call(10)), 10)
    assert reservation.call.bound_nano == 20
    with pytest.raises(BudgetExceededError):
        await ledger.extend(reservation, 11)
    await ledger.extend(reservation, 10)
    await ledger.settle(reservation, cost(1))
    await ledger.reserve(call(29))


async def test_an_ended_reservation_cannot_be_extended():
    """Nothing may be sent on a reservation that is settled."""
    ledger = LocalLedger()
    reservation = await spend(ledger, 10, 10)
    with pytest.raises(DatabaseError, match="settled or released"):
        await ledger.extend(reservation, 1)


async def test_the_truth_is_never_refused():
    """A call that cost more than its bound counts in full, and closes the budget."""
    ledger = LocalLedger([limit(10)])
    await spend(ledger, 10, 25)
    assert ledger.spent_today_nano == 25
    with pytest.raises(BudgetExceededError):
        await ledger.reserve(call(1))
    await ledger.reserve(call(0))


async def test_each_user_has_a_window_of_their_own():
    """One user's spend does not bind another."""
    ledger = LocalLedger([limit(10, scope="user")])
    await spend(ledger, 10, 10, user="ann")
    await ledger.reserve(call(10, user="bob"))
    with pytest.raises(BudgetExceededError) as refused:
        await ledger.reserve(call(1, user="ann"))
    assert refused.value.budget == "user:ann/day"


async def test_a_call_brings_budgets_of_its_own():
    """A call's own budget binds it on what the project spent before."""
    ledger = LocalLedger()
    await spend(ledger, 8, 8)
    with pytest.raises(BudgetExceededError):
        await ledger.reserve(call(3, budgets=(limit(10, "total"),)))


async def test_a_new_day_and_a_new_month_begin_at_utc_midnight():
    """A day's budget is fresh after midnight, the month's after its end; each call counts for the day it began on."""
    clock = Clock(2026, 11, 30, 23, 59)
    ledger = LocalLedger([limit(10), limit(15, "month")], now=clock)
    late = await ledger.reserve(call(10))
    clock.now += timedelta(minutes=2)
    await ledger.reserve(call(10))
    await ledger.settle(late, cost(9))
    assert ledger.spent_today_nano == 0
    clock.now += timedelta(days=1)
    with pytest.raises(BudgetExceededError) as refused:
        await ledger.reserve(call(6))
    assert refused.value.budget == "project/month"
    assert refused.value.resets_at == datetime(2027, 1, 1, tzinfo=UTC)


async def test_memory_stays_flat_over_the_days():
    """Windows that are over are forgotten, and so are reservations that nobody settled; their bound stays spent."""
    clock = Clock(2026, 1, 1)
    ledger = LocalLedger([limit(10**6), limit(10**6, scope="user")], now=clock)
    for day in range(300):
        for user in range(3):
            await spend(ledger, 5, 5, user=f"{day}-{user}")
        await ledger.reserve(call(7, hold_seconds=60))
        clock.now += timedelta(days=1)
    assert len(ledger._windows) < 20
    assert len(ledger._holds) < 3
    with pytest.raises(BudgetExceededError) as refused:
        await ledger.reserve(call(1, budgets=(limit(0, "total"),)))
    assert refused.value.spent_usd + refused.value.reserved_usd == 300 * (3 * 5 + 7) * _NANO


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=30))
async def test_spend_and_reserve_never_pass_the_limit(calls: list[tuple[int, int]]):
    """Whatever comes: while bounds hold, the sum of spend and reserve stays within the limit."""
    ledger, spent = LocalLedger([limit(100)]), 0
    for bound, actual in calls:
        try:
            reservation = await ledger.reserve(call(bound))
        except BudgetExceededError:
            assert spent + bound > 100
            continue
        await ledger.settle(reservation, cost(min(bound, actual)))
        spent += min(bound, actual)
        assert ledger.spent_today_nano == spent <= 100


def test_threads_share_one_budget():
    """Several threads, each with a loop of its own, cannot overspend together."""
    ledger = LocalLedger([limit(500)])

    def work(_: int) -> int:
        async def many() -> int:
            done = 0
            for _ in range(100):
                try:
                    await spend(ledger, 5, 5)
                except BudgetExceededError:
                    continue
                done += 1
            return done

        return asyncio.run(many())

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(work, range(8))) == 100
    assert ledger.spent_today_nano == 500


async def test_a_record_counts_without_a_reserve():
    """A cache hit or a cost from elsewhere is counted, and never refused."""
    ledger = LocalLedger([limit(10)])
    await ledger.record(call(0), cost(12))
    assert ledger.spent_today_nano == 12


async def test_the_next_model_of_a_fallback_is_held_to_its_own_budget():
    """All that is set aside must fit it, also where no more is needed; the one that is paid keeps the cost."""
    ledger = LocalLedger([limit(100, scope="model")])
    held = await ledger.reserve(call(60))
    other = await ledger.reserve(replace(call(41), model="b"))
    with pytest.raises(BudgetExceededError) as refused:
        await ledger.extend(held, 0, model="b", provider="q")
    assert refused.value.budget == "model:b/day"
    await ledger.release(other)
    held = await ledger.extend(held, 40, model="b", provider="q")
    assert (held.call.model, held.call.provider, held.call.bound_nano) == ("b", "q", 100)
    for model in ("m", "b"):
        with pytest.raises(BudgetExceededError):
            await ledger.reserve(replace(call(1), model=model))
    await ledger.settle(held, replace(cost(90), model="b"))
    await ledger.reserve(call(100))
    with pytest.raises(BudgetExceededError):
        await ledger.reserve(replace(call(11), model="b"))


async def test_a_dead_call_is_charged_to_the_model_asked_last():
    """On a new day what nobody settled is charged, to one model only."""
    clock = Clock(2026, 1, 1, 12)
    ledger = LocalLedger([limit(100, "month", "model")], now=clock)
    await ledger.extend(await ledger.reserve(call(60)), 0, model="b")
    clock.now += timedelta(days=1)
    await ledger.reserve(call(100))
    with pytest.raises(BudgetExceededError):
        await ledger.reserve(replace(call(41), model="b"))


def test_nothing_waits():
    """It says that it does not wait, and so is never carried through as a task: each method ends in its first step."""
    ledger = LocalLedger([limit(1_000)])
    assert not ledger.waits

    def at_once(work: Coroutine[object, object, T]) -> T:
        with pytest.raises(StopIteration) as ended:
            work.send(None)
        return ended.value.value

    reservation = at_once(ledger.reserve(call(60)))
    at_once(ledger.settle(at_once(ledger.extend(reservation, 10, model="m", provider="p")), cost(5)))
    at_once(ledger.release(at_once(ledger.reserve(call(60)))))
    at_once(ledger.record(call(), cost(5)))
