"""Which budgets bind a call, when windows end, and what a refusal says."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.ledger.protocol import budgets_that_bind, resets_at
from llm_common.models import Budget, PlannedCall
from llm_common.money import budget_refusal

_CALL = PlannedCall(
    kind="chat",
    model="openai/gpt-6-luna",
    provider="openai",
    bound_nano=1,
    user_id="ann",
    run_id="run-1",
    tags={"team": "law", "env": "prod"},
)


@pytest.mark.parametrize(
    ("budget", "keys"),
    [
        (Budget(Decimal(1)), ["project"]),
        (Budget(Decimal(1), scope="user"), ["user:ann"]),
        (Budget(Decimal(1), scope="user", value="ann"), ["user:ann"]),
        (Budget(Decimal(1), scope="user", value="bob"), []),
        (Budget(Decimal(1), scope="model"), ["model:openai/gpt-6-luna"]),
        (Budget(Decimal(1), scope="run"), ["run:run-1"]),
        (Budget(Decimal(1), scope="tag"), ["tag:team=law", "tag:env=prod"]),
        (Budget(Decimal(1), scope="tag", value="team=law"), ["tag:team=law"]),
        (Budget(Decimal(1), scope="tag", value="team=tax"), []),
    ],
)
def test_a_budget_binds_the_calls_of_its_scope(budget: Budget, keys: list[str]):
    """A budget without a value binds each value by itself, one with a value only that one."""
    assert budgets_that_bind(_CALL, (budget,)) == {(key, "day"): 1_000_000_000 for key in keys}


def test_a_call_without_a_user_is_not_bound_by_users_budgets():
    """What a call does not carry cannot bind it."""
    nobody = PlannedCall(kind="chat", model="m", provider="p", bound_nano=1)
    everybody = tuple(Budget(Decimal(1), scope=scope) for scope in ("user", "run", "tag"))
    assert budgets_that_bind(nobody, everybody) == {}


@given(st.lists(st.integers(min_value=0, max_value=10**9 - 1), min_size=1), st.lists(st.integers(0, 10**9 - 1)))
def test_the_strictest_limit_of_a_window_wins(ledgers: list[int], calls: list[int]):
    """Of several limits on one window, the ledger's or the call's, only the smallest matters."""
    call = PlannedCall(
        kind="chat", model="m", provider="p", bound_nano=1, budgets=tuple(Budget(Decimal(n)) for n in calls)
    )
    bound = budgets_that_bind(call, tuple(Budget(Decimal(n)) for n in ledgers))
    assert bound == {("project", "day"): min(ledgers + calls) * 10**9}


def test_windows_of_one_scope_are_apart():
    """A day's and a month's limit bind together."""
    budgets = (Budget(Decimal(1)), Budget(Decimal(20), "month"), Budget(Decimal(300), "total"))
    assert set(budgets_that_bind(_CALL, budgets)) == {("project", "day"), ("project", "month"), ("project", "total")}


@given(st.dates(max_value=date(9999, 11, 30)))
def test_a_month_ends_on_the_first_of_the_next(day: date):
    """The month of any day resets at midnight of the first of the following month."""
    starts = day.replace(day=1)
    resets = resets_at("month", starts)
    assert resets is not None
    assert resets.day == 1
    assert resets.tzinfo is UTC
    assert (resets - timedelta(days=1)).month == starts.month
    assert (resets - timedelta(days=1)).year == starts.year


def test_a_day_ends_at_midnight_and_a_total_never():
    """A day resets at the next UTC midnight, a total does not."""
    assert resets_at("day", date(2026, 12, 31)) == datetime(2027, 1, 1, tzinfo=UTC)
    assert resets_at("total", date.min) is None


def test_a_refusal_says_what_to_know_and_what_to_do():
    """The error has the budget, the spend, the reserve and the reset, in its fields and in its sentence."""
    resets = datetime(2026, 12, 1, tzinfo=UTC)
    error = budget_refusal(
        budget="user:ann/month",
        limit_nano=5 * 10**9,
        spent_nano=4 * 10**9,
        reserved_nano=750_000_000,
        requested_nano=300_000_000,
        resets_at=resets,
    )
    assert (error.budget, error.limit_usd, error.spent_usd) == ("user:ann/month", Decimal(5), Decimal(4))
    assert (error.reserved_usd, error.requested_usd, error.resets_at) == (Decimal("0.75"), Decimal("0.3"), resets)
    for part in ("user:ann/month", "$5.00", "$4.00", "$0.750000", "$0.300000", resets.isoformat(), "Nothing was sent"):
        assert part in str(error)
