"""`CostTracker`: budgets that hold across processes, alerts, reports, and a database that goes away for a moment."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest

from llm_common.cost_tracker import BudgetAlert, CostMetrics, CostTracker
from llm_common.db.database import Database
from llm_common.exceptions import (
    BudgetExceededError,
    ConfigurationError,
    InvalidInputError,
)
from llm_common.models import Budget, Outcome, PlannedCall, Usage

_CENT = 10_000_000


def call(bound: int = _CENT, **other: object) -> PlannedCall:
    return PlannedCall(kind="chat", model="m", provider="x", bound_nano=bound, **other)


def cost(nano: int, **other: object) -> Outcome:
    return Outcome(model="m", provider="x", cost_nano=nano, price_source="map", status="ok", **other)


async def spend(tracker: CostTracker, nano: int, **other: object) -> None:
    await tracker.settle(await tracker.reserve(call(nano, **other)), cost(nano))


def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()  # pyright: ignore[reportArgumentType, reportCallIssue] (constants)


@pytest.fixture
async def tracker(db: Database) -> CostTracker:
    return CostTracker(db, project="p")


@asynccontextmanager
async def processes(dsn: str, number: int) -> AsyncGenerator[list[Database]]:
    """As many databases as if they were of other processes: each with connections of its own."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Database.connect(dsn)) for _ in range(number)]


# --- budgets


async def _at_random(number: int, work: Callable[[int], Awaitable[None]]) -> None:
    """Many at once; every seventh is cancelled somewhere on its way."""
    tasks = [asyncio.create_task(work(n)) for n in range(number)]
    for n, task in enumerate(tasks):
        if n % 7 == 3:
            await asyncio.sleep(0.002)
            task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


async def test_no_number_of_callers_passes_a_budget(dsn: str):
    """192 calls at once over four processes, for 60 of which there is money, some cancelled: never more than that."""
    async with processes(dsn, 4) as databases:
        trackers = [CostTracker(db, daily_budget_usd="0.60", project="p") for db in databases]
        refused: list[int] = []

        async def work(n: int) -> None:
            tracker = trackers[n % 4]
            try:
                reservation = await tracker.reserve(call())
            except BudgetExceededError:
                refused.append(n)
                return
            if n % 5 == 0:
                await asyncio.shield(tracker.release(reservation))
            else:
                await asyncio.shield(tracker.settle(reservation, cost(_CENT - n % 3)))

        watching = asyncio.create_task(_watch(dsn, 60 * _CENT))
        await _at_random(192, work)
        await asyncio.sleep(0.05)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        assert refused
        [status, _] = await trackers[0].budget_status()
        assert status.spent_usd <= Decimal("0.60")
        assert status.reserved_usd == 0
        assert rows(dsn, "SELECT * FROM cost_reservations") == []
        assert rows(dsn, "SELECT * FROM check_cost_ledger('p')") == []


async def _watch(dsn: str, limit_nano: int) -> None:
    query = "SELECT reserved_nano + spent_nano FROM budget_windows WHERE \"window\" = 'day'"
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        while True:
            for (used,) in await (await connection.execute(query)).fetchall():
                assert used <= limit_nano


async def test_checking_before_spending_does_pass_a_budget(dsn: str):
    """The control: the same calls that only look before they pay overspend, so the test above can fail."""
    async with processes(dsn, 4) as databases:
        trackers = [CostTracker(db, project="p") for db in databases]

        async def work(n: int) -> None:
            if await trackers[n % 4].get_daily_cost() + Decimal("0.01") <= Decimal("0.60"):
                await trackers[n % 4].log_cost(CostMetrics("m", "s", Decimal("0.01")))

        await asyncio.gather(*(work(n) for n in range(192)))
        assert await trackers[0].get_daily_cost() > Decimal("0.60")


async def test_the_public_budgets_bind(db: Database):
    """Daily and monthly dollars of the constructor, and further budgets, hold every call."""
    tracker = CostTracker(db, 2.5, "40", project="p", budgets=[Budget(Decimal("0.02"), scope="user")])
    assert tracker.budgets[:2] == (Budget(Decimal("2.5")), Budget(Decimal(40), "month"))
    await spend(tracker, 2 * _CENT, user_id="ann")
    with pytest.raises(BudgetExceededError) as refused:
        await tracker.reserve(call(user_id="ann"))
    assert refused.value.budget == "user:ann/day"
    assert refused.value.limit_usd == refused.value.spent_usd == Decimal("0.02")
    await spend(tracker, 2 * _CENT, user_id="bob")
    with pytest.raises(BudgetExceededError) as refused:
        await tracker.reserve(call(247 * _CENT))
    assert refused.value.budget == "project/day"


async def test_budgets_and_project_come_from_the_environment(dsn: str, monkeypatch: pytest.MonkeyPatch):
    """Without arguments, DATABASE_URL and the LLM_COMMON_ variables say all; an argument wins over them."""
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("LLM_COMMON_PROJECT", "from-env")
    monkeypatch.setenv("LLM_COMMON_DAILY_BUDGET_USD", "0.01")
    async with CostTracker() as tracker:
        assert tracker.project == "from-env"
        with pytest.raises(BudgetExceededError):
            await tracker.reserve(call(_CENT + 1))
    assert CostTracker(daily_budget_usd=3).budgets == (Budget(Decimal(3)),)


def test_a_tracker_without_a_database_says_so(monkeypatch: pytest.MonkeyPatch):
    """Neither an argument nor DATABASE_URL is an error at once, not at the first call."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        CostTracker()


@pytest.mark.parametrize(
    "arguments",
    [
        {"alert_threshold": 0},
        {"alert_threshold": 1.01},
        {"alert_threshold": float("nan")},
        {"daily_budget_usd": -1},
        {"monthly_budget_usd": "much"},
        {"daily_budget_usd": float("nan")},
    ],
)
def test_absurd_budgets_are_refused(arguments: dict[str, float]):
    """A threshold or a budget that cannot be meant is refused where it is given."""
    with pytest.raises(InvalidInputError, match=next(iter(arguments))):
        CostTracker("postgresql://nowhere/none", **arguments)


async def test_an_extended_reservation_knows_its_bound(tracker: CostTracker):
    """Extending twice from the same or from the returned reservation adds up in the ledger."""
    first = await tracker.reserve(call(10))
    second = await tracker.extend(first, 5)
    await tracker.extend(first, 7)
    assert second.call.bound_nano == 15
    [status, _] = await tracker.budget_status()
    assert status.reserved_usd == Decimal(22).scaleb(-9)


async def test_ids_are_ordered_by_time(tracker: CostTracker):
    """Reservations are UUIDs of version 7, so that rows written together lie together."""
    ids = []
    for _ in range(3):
        ids.append(UUID((await tracker.reserve(call())).id))
        await asyncio.sleep(0.002)
    assert ids == sorted(ids)
    assert {(made.version, made.variant) for made in ids} == {(7, ids[0].variant)}
    made_at = datetime.fromtimestamp((ids[0].int >> 80) / 1000, UTC)
    assert abs(datetime.now(UTC) - made_at) < timedelta(minutes=1)


# --- cancellation


async def test_a_cancelled_reserve_leaves_nothing_behind(tracker: CostTracker, dsn: str):
    """A task that is cancelled while it reserves gives back what may have arrived."""
    for delay in range(12):
        task = asyncio.create_task(tracker.reserve(call()))
        await asyncio.sleep(delay * 0.0005)
        if not task.done():
            task.cancel()
        with suppress(asyncio.CancelledError):
            await tracker.release(await task)
    assert rows(dsn, "SELECT * FROM cost_reservations") == []
    assert rows(dsn, "SELECT DISTINCT reserved_nano FROM budget_windows") in ([], [(0,)])


# --- alerts


class Told:
    """A callback that remembers."""

    def __init__(self) -> None:
        self.alerts: list[BudgetAlert] = []

    def __call__(self, alert: BudgetAlert) -> None:
        self.alerts.append(alert)


async def test_two_processes_that_cross_together_tell_once(dsn: str):
    """However many settle at the moment of crossing, one callback of one of them is called."""
    told = Told()
    async with processes(dsn, 2) as databases:
        trackers = [CostTracker(db, "0.20", project="p", alert_threshold=0.5, on_alert=told) for db in databases]
        held = [await trackers[n % 2].reserve(call()) for n in range(20)]
        await asyncio.gather(*(trackers[n % 2].settle(one, cost(_CENT)) for n, one in enumerate(held)))
    [alert] = told.alerts
    assert (alert.project, alert.scope, alert.window, alert.threshold) == ("p", "project", "day", Decimal("0.5"))
    assert (alert.limit_usd, alert.spent_usd) == (Decimal("0.2"), Decimal("0.1"))
    assert rows(dsn, "SELECT count(*) FROM cost_alerts") == [(1,)]


async def test_an_async_callback_is_awaited_and_a_broken_one_is_logged(db: Database, caplog: pytest.LogCaptureFixture):
    """A coroutine function works; what a callback raises is logged with its traceback, and the call goes on."""
    done: list[str] = []

    async def slowly(alert: BudgetAlert) -> None:
        await asyncio.sleep(0)
        done.append(alert.window)
        raise RuntimeError("the pager is broken")

    tracker = CostTracker(db, "0.01", project="p", on_alert=slowly)
    with caplog.at_level(logging.WARNING, "llm_common.cost_tracker"):
        await spend(tracker, _CENT)
    assert done == ["day"]
    assert "budget project/day of project p crossed 0.8: $0.010000 of $0.010000 spent" in caplog.text
    assert "the pager is broken" in caplog.text
    assert await tracker.get_daily_cost() == Decimal("0.01")


async def test_without_a_callback_the_log_tells(db: Database, caplog: pytest.LogCaptureFixture):
    """A cost from elsewhere crosses thresholds too; once."""
    tracker = CostTracker(db, monthly_budget_usd=1, project="p")
    for _ in range(3):
        await tracker.log_cost(CostMetrics("m", "s", Decimal("0.9")))
    assert [record.message for record in caplog.records if "crossed" in record.message] == [
        "budget project/month of project p crossed 0.8: $0.900000 of $1.00 spent"
    ]


# --- costs and reports


async def test_costs_from_elsewhere_are_recorded_to_the_last_digit(tracker: CostTracker, dsn: str):
    """`log_cost` files model, step, tokens and time, and the reports sum it exactly."""
    moment = datetime(2026, 1, 31, 23, 30, tzinfo=UTC)
    await tracker.log_cost(CostMetrics("gpt", "review", Decimal("0.000000001"), 12, moment))
    await tracker.log_cost(CostMetrics("gpt", "", Decimal("3.1"), 5, moment + timedelta(hours=1)))
    assert await tracker.get_daily_cost("2026-01-31") == Decimal("0.000000001")
    assert await tracker.get_daily_cost(date(2026, 2, 1)) == Decimal("3.1")
    assert await tracker.get_daily_cost(moment) == Decimal("0.000000001")
    assert await tracker.get_monthly_cost(2026, 1) == Decimal("0.000000001")
    assert await tracker.get_monthly_cost(2026, 12) == 0
    both = await tracker.get_cost_breakdown("2026-01-31", date(2026, 2, 1), group_by="step")
    assert both == {"(none)": Decimal("3.1"), "review": Decimal("0.000000001")}
    assert list(both) == ["(none)", "review"]
    assert await tracker.get_cost_breakdown("2026-01-31", "2026-01-31") == {"gpt": Decimal("0.000000001")}
    [group] = await tracker.summarize("2026-01-31", "2026-01-31")
    assert (group.calls, group.failed, group.cache_hits, group.tokens) == (1, 0, 0, 12)
    assert rows(dsn, "SELECT DISTINCT kind, price_source, status FROM cost_tracking") == [
        ("external", "override", "ok")
    ]


async def test_logging_again_with_a_key_changes_nothing(tracker: CostTracker):
    """A cost that is reported twice counts once."""
    for _ in range(2):
        await tracker.log_cost(CostMetrics("m", "s", Decimal(1)), idempotency_key="invoice-7")
    assert await tracker.get_daily_cost() == 1


async def test_a_budget_does_not_refuse_what_happened_elsewhere(db: Database):
    """The truth counts against the budget, and closes it for further calls."""
    tracker = CostTracker(db, "0.01", project="p")
    await tracker.log_cost(CostMetrics("m", "s", Decimal(5)))
    assert tracker.spent_today_nano == 5 * 10**9
    with pytest.raises(BudgetExceededError):
        await tracker.reserve(call(1))


async def test_a_cache_hit_is_a_row_at_no_cost(tracker: CostTracker):
    """A hit is counted apart from paid calls, with whom it was for."""
    hit = PlannedCall(kind="cache_hit", model="search-prime", provider="zai", bound_nano=0, step="research")
    free = Outcome(model="search-prime", provider="zai", cost_nano=0, price_source="map", status="ok")
    await tracker.record(hit, free)
    today = date.fromisoformat(datetime.now(UTC).date().isoformat())
    [group] = await tracker.summarize(today - timedelta(days=1), today + timedelta(days=1), "provider")
    assert (group.key, group.calls, group.cache_hits, group.cost_usd) == ("zai", 1, 1, 0)


async def test_a_paid_call_is_filed_with_all_that_is_known(tracker: CostTracker, dsn: str):
    """Outcome and plan meet in one row; the answer's text and milliseconds do as they should."""
    reservation = await tracker.reserve(call(step="generate", user_id="ann", run_id="r", tags={"team": "law"}))
    usage = Usage(5, 4, 3, 9, 6, 2)
    await tracker.settle(
        reservation, cost(7, answered_by="m-1", usage=usage, seconds=1.2345, attempts=2, answer="SECRET")
    )
    [(row,)] = rows(dsn, "SELECT to_jsonb(c) FROM cost_tracking c")
    assert isinstance(row, dict)
    assert "SECRET" not in str(row)
    expected = {
        "id": reservation.id, "step": "generate", "user_id": "ann", "run_id": "r", "tags": {"team": "law"},
        "model_answered": "m-1", "input_tokens": 5, "cache_read_tokens": 4, "cache_write_tokens": 3, "output_tokens": 9,
        "reasoning_tokens": 6, "cache_write_1h_tokens": 2, "tokens_used": 21, "latency_ms": 1234, "attempts": 2,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected


async def test_projects_do_not_see_each_other(db: Database, tracker: CostTracker):
    """Spend, budgets and reports of one project leave another alone."""
    other = CostTracker(db, "0.01", project="q")
    await spend(tracker, 5 * _CENT)
    await spend(other, _CENT)
    assert (await tracker.get_daily_cost(), await other.get_daily_cost()) == (Decimal("0.05"), Decimal("0.01"))
    assert (tracker.spent_today_nano, other.spent_today_nano) == (5 * _CENT, _CENT)


@pytest.mark.parametrize(
    ("report", "part"),
    [
        (lambda tracker: tracker.get_daily_cost("31.01.2026"), "31.01.2026"),
        (lambda tracker: tracker.get_daily_cost(20260131), "20260131"),
        (lambda tracker: tracker.get_monthly_cost(2026, 13), "month 13 of year 2026"),
        (lambda tracker: tracker.get_monthly_cost(2026, "May"), "May"),
        (lambda tracker: tracker.get_cost_breakdown("2026-01-01", "soon"), "end_date.*soon"),
        (lambda tracker: tracker.get_cost_breakdown("2026-01-02", "2026-01-01"), "2026-01-02 must not be after"),
        (lambda tracker: tracker.get_cost_breakdown("2026-01-01", "2026-01-02", "mood"), "mood"),
        (lambda tracker: tracker.set_time_zone("Mars"), "Mars"),
    ],
)
async def test_reports_refuse_what_cannot_be_meant(
    tracker: CostTracker, report: Callable[[CostTracker], Awaitable[object]], part: str
):
    """A wrong date, month, range, group or zone is refused with its value."""
    with pytest.raises(InvalidInputError, match=part):
        await report(tracker)


async def test_budget_status_shows_limits_before_anything_is_spent(db: Database):
    """Standing budgets are listed at zero; after a call with what it reserved and spent, and when they reset."""
    tracker = CostTracker(db, 1, 20, project="p", budgets=[Budget(Decimal(3), "total", "user", "ann")])
    before = await tracker.budget_status()
    assert [(s.scope, s.window, s.limit_usd, s.spent_usd) for s in before] == [
        ("project", "day", 1, 0), ("project", "month", 20, 0), ("user:ann", "total", 3, 0),
    ]  # fmt: skip
    await spend(tracker, _CENT, user_id="ann")
    await tracker.reserve(call(2 * _CENT))
    day, month, ann = await tracker.budget_status()
    assert (day.spent_usd, day.reserved_usd, ann.spent_usd) == (Decimal("0.01"), Decimal("0.02"), Decimal("0.01"))
    assert day.resets_at is not None
    assert day.resets_at.date() == day.starts + timedelta(days=1)
    assert month.resets_at is not None
    assert month.resets_at.day == 1
    assert ann.resets_at is None


async def test_reports_count_the_dead(tracker: CostTracker):
    """A report charges what a dead process left, so that it does not show too little."""
    await tracker.reserve(call(hold_seconds=0.001))
    await asyncio.sleep(0.005)
    assert await tracker.get_daily_cost() == Decimal("0.01")
    assert await tracker.expire() == 0


async def test_the_forecast_is_the_projects_own(db: Database, tracker: CostTracker):
    """Other projects are not in it; a day can be given as a text; the dead are charged first."""
    await CostTracker(db, project="q").log_cost(CostMetrics("m", "s", Decimal(9), 0, datetime(2026, 1, 9, tzinfo=UTC)))
    for day in range(5, 10):
        await tracker.log_cost(CostMetrics("m", "s", Decimal(day), 0, datetime(2026, 1, day, tzinfo=UTC)))
    seen = await tracker.forecast("2026-01-09")
    assert (seen.basis_days, seen.mean_usd, seen.spent_usd) == (4, Decimal("6.5"), 35)
    assert seen.expected_usd == 26 + 9 + Decimal("6.5") * 22
    await tracker.reserve(call(hold_seconds=0.001))
    await asyncio.sleep(0.005)
    today = await tracker.forecast()
    assert (today.spent_usd, today.expected_usd is None) == (Decimal("0.01"), today.basis_days < 3)
    with pytest.raises(InvalidInputError, match="soon"):
        await tracker.forecast("soon")


async def test_the_extended_reservation_names_the_model_asked_now(tracker: CostTracker, dsn: str):
    """Who settles sees the grown bound; the row is that of whom the outcome names."""
    held = await tracker.extend(await tracker.reserve(call(10)), 5, model="n", provider="y")
    assert (held.call.model, held.call.provider, held.call.bound_nano) == ("n", "y", 15)
    await tracker.settle(held, Outcome(model="n", provider="y", cost_nano=12, price_source="map", status="ok"))
    assert rows(dsn, "SELECT model, provider FROM cost_tracking") == [("n", "y")]
