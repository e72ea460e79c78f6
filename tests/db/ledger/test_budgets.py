"""Limits, alerts, and the days that they hold for."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from llm_common.db.functions.ledger import Limit
from llm_common.exceptions import BudgetExceededError, InvalidInputError


@pytest.mark.parametrize("window", ["day", "month", "total"])
@pytest.mark.parametrize("scope", ["project", "model:m", "user:ann", "run:r", "tag:team=a=b"])
async def test_a_budget_set_later_starts_from_the_truth(books, scope: str, window: str):
    """A limit on a scope that nobody counted so far knows its rows, its overspend and its calls in flight."""
    call = {"user_id": "ann", "run_id": "r", "tags": {"team": "a=b", "env": "x"}}
    await books.settle(await books.reserve(10, **call), 40)
    await books.settle(await books.reserve(10, model="m2", user_id="bob", run_id="r2", tags={"team": "c"}), 3)
    await books.reserve(25, **call)
    others = 3 if scope == "project" else 0
    with pytest.raises(BudgetExceededError) as refused:
        await books.reserve(1, limits=[Limit(scope, window, 65 + others)], **call)
    assert refused.value.budget == f"{scope}/{window}"
    assert refused.value.spent_usd * 10**9 == 40 + others
    assert refused.value.reserved_usd * 10**9 == 25
    await books.reserve(1, limits=[Limit(scope, window, 66 + others)], **call)
    assert await books.window(scope, window) == (26, 40 + others, 30)


async def test_the_tightest_of_several_limits_refuses(books, day_limit):
    """The error names the limit that has the least room, and nothing of the call remains."""
    limits = [day_limit(1000), day_limit(90, "user:ann", "month"), day_limit(95, "tag:a=b", "total")]
    with pytest.raises(BudgetExceededError) as refused:
        await books.reserve(100, limits=limits, user_id="ann", tags={"a": "b"})
    assert refused.value.budget == "user:ann/month"
    assert refused.value.resets_at is not None
    assert (refused.value.resets_at.day, refused.value.resets_at.utcoffset()) == (1, timedelta(0))
    assert await books.rows("SELECT * FROM cost_reservations") == []
    assert await books.rows("SELECT * FROM budget_windows") == []


@pytest.mark.parametrize(
    ("call", "limits", "part"),
    [
        ({"project": ""}, [], "project is empty"),
        ({"model": None}, [], "model is empty"),
        ({"kind": "a gift"}, [], "a gift"),
        ({"kind": "Gift"}, [], "Gift"),
        ({"bound_nano": -1}, [], "bound_nano"),
        ({"bound_nano": 10**18}, [], "bound_nano"),
        ({"tags": {"a=b": "c"}}, [], "must not have ="),
        ({}, [Limit("user:ann", "day", 1)], "scopes that the call has"),
        ({}, [Limit("project", "week", 1)], "day, month or total"),
        ({}, [Limit("project", "day", -1)], "not negative"),
    ],
)
async def test_a_call_that_cannot_be_meant_is_refused(books, call: dict[str, Any], limits: list[Limit], part: str):
    """Each wrong argument is refused by name, and nothing is reserved."""
    with pytest.raises(InvalidInputError, match=part):
        await books.reserve(**{"bound": call.pop("bound_nano", 1), "limits": limits, **call})
    assert await books.rows("SELECT * FROM cost_reservations") == []


@pytest.mark.parametrize("cost", [-1, 10**18, None])
async def test_an_absurd_cost_is_refused_and_the_reserve_stands(books, cost: int | None):
    """A settlement with a cost that cannot be meant is an error, and the bound stays set aside."""
    call_id = await books.reserve()
    with pytest.raises(InvalidInputError, match="cost_nano"):
        await books.settle(call_id, cost)  # pyright: ignore[reportArgumentType] (what is tested)
    assert await books.window() == (100, 0, 0)


async def test_an_outcome_cannot_change_whose_call_it_was(books):
    """Keys of an outcome that name another payer or day are ignored."""
    call_id = await books.reserve()
    await books.settle(call_id, 7, project="q", day="2020-01-01", id=str(uuid4()), bound_usd=0)
    assert await books.row(call_id) == (7, "ok", "map")
    assert await books.window() == (0, 7, 0)


async def test_an_alert_fires_once_per_window_and_threshold(books, day_limit):
    """The settlement that crosses a threshold is the only one told of it."""
    limits = [day_limit(100, alert=0.5), day_limit(100, window="month", alert=0.8)]
    told = [(await books.settle(await books.reserve(10, limits=limits), 10)).alerts for _ in range(9)]
    assert [[(alert.window, alert.threshold) for alert in alerts] for alerts in told] == [
        [], [], [], [], [("day", Decimal("0.5"))], [], [], [("month", Decimal("0.8"))], [],
    ]  # fmt: skip
    assert (told[4][0].spent_usd * 10**9, told[4][0].limit_usd * 10**9) == (50, 100)
    assert len(await books.rows("SELECT * FROM cost_alerts")) == 2


async def test_a_new_limit_that_is_nearly_spent_tells_at_once(books, day_limit):
    """Who sets a budget below what was spent hears of it with the first call, not with its end."""
    await books.record(90)
    entry = await books.db.ledger.reserve(
        {"kind": "chat", "project": "p", "provider": "x", "model": "m", "bound_nano": 1},
        [day_limit(100, alert=0.8)],
        hold_seconds=900.0,
    )
    assert [alert.spent_usd * 10**9 for alert in entry.alerts] == [90]


async def test_an_expiry_and_a_record_tell_too(books, day_limit):
    """Spend that no settlement brings crosses thresholds as well."""
    await books.dead(60, limits=[day_limit(100, alert=0.5)])
    _, alerts = await books.db.ledger.expire(max_rows=9, project="p")
    assert [alert.threshold for alert in alerts] == [Decimal("0.5")]
    entry = await books.record(30, limits=[day_limit(100, alert=0.9)])
    assert [alert.threshold for alert in entry.alerts] == [Decimal("0.9")]


async def test_a_call_counts_for_the_day_on_which_it_was_reserved(books, day_limit):
    """Midnight between reserve and settlement: the reserve's day pays, and the new day is untouched."""
    # 26 hours apart: whatever the time, it is another day there.
    await books.db.ledger.set_time_zone("p", "Etc/GMT+12")
    call_id = await books.reserve(100, limits=[day_limit(100)])
    [(reserved_on,)] = await books.rows("SELECT day FROM cost_reservations")
    await books.db.ledger.set_time_zone("p", "Pacific/Kiritimati")
    other = await books.reserve(100, limits=[day_limit(100)])
    entry = await books.settle(call_id, 70)
    assert entry.spent_today_nano == 0
    assert await books.rows("SELECT day, cost_nano FROM cost_daily") == [(reserved_on, 70)]
    assert (await books.settle(other, 5)).spent_today_nano == 5


@pytest.mark.parametrize(
    ("zone", "moment", "day"),
    [
        ("UTC", "2026-01-31T23:59:59.999999+00:00", date(2026, 1, 31)),
        ("UTC", "2026-02-01T00:00:00+00:00", date(2026, 2, 1)),
        ("UTC", "2026-02-01T00:30:00+01:00", date(2026, 1, 31)),
        # New York leaves standard time on 2026-03-08, and comes back on 2026-11-01.
        ("America/New_York", "2026-03-08T04:59:59+00:00", date(2026, 3, 7)),
        ("America/New_York", "2026-03-09T03:59:59+00:00", date(2026, 3, 8)),
        ("America/New_York", "2026-03-09T04:00:00+00:00", date(2026, 3, 9)),
        ("America/New_York", "2026-11-02T04:59:59+00:00", date(2026, 11, 1)),
        ("America/New_York", "2026-11-02T05:00:00+00:00", date(2026, 11, 2)),
        ("Asia/Kathmandu", "2026-06-30T18:15:00+00:00", date(2026, 7, 1)),
    ],
)
async def test_a_day_is_that_of_the_projects_time_zone(books, zone: str, moment: str, day: date):
    """Across midnight, month ends and changes of the clock, a cost belongs to the local day of its time."""
    await books.db.ledger.set_time_zone("p", zone)
    await books.record(5, timestamp=moment)
    assert await books.rows("SELECT day, cost_nano FROM cost_daily") == [(day, 5)]
    assert (await books.rows('SELECT "timestamp" FROM cost_tracking'))[0][0] == datetime.fromisoformat(moment)


@pytest.mark.parametrize(
    ("zone", "window", "starts", "resets"),
    [
        ("UTC", "day", "2026-12-31", "2027-01-01T00:00:00+00:00"),
        ("UTC", "month", "2028-02-01", "2028-03-01T00:00:00+00:00"),
        ("America/New_York", "day", "2026-03-08", "2026-03-09T04:00:00+00:00"),
        ("America/New_York", "day", "2026-11-01", "2026-11-02T05:00:00+00:00"),
        ("America/New_York", "month", "2026-03-01", "2026-04-01T04:00:00+00:00"),
        ("UTC", "total", "0001-01-01", None),
    ],
)
async def test_a_window_resets_at_its_local_midnight(books, zone: str, window: str, starts: str, resets: str | None):
    """A day of 23 or 25 hours ends at its midnight, and a total never."""
    await books.db.ledger.set_time_zone("p", zone)
    assert await books.rows("SELECT budget_resets_at('p', %s, %s)", window, starts) == [(resets,)]


async def test_an_unknown_time_zone_is_refused(books):
    """A zone is checked when it is set, not when the first call fails."""
    with pytest.raises(InvalidInputError, match="Mars/Olympus"):
        await books.db.ledger.set_time_zone("p", "Mars/Olympus")
