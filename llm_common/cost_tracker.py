"""`CostTracker`: the ledger in Postgres, with its budgets, its alerts and its reports.

tracker = CostTracker(db, daily_budget_usd=10)
await tracker.get_cost_breakdown("2026-11-01", "2026-11-30", group_by="step")
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from secrets import randbits
from typing import Literal, Self, TypeAlias
from uuid import UUID

from llm_common._runtime.shielding import run_shielded
from llm_common.db.database import Database, DatabaseSource
from llm_common.db.functions.ledger import (
    BudgetAlert,
    BudgetStatus,
    CostForecast,
    CostSummary,
    Entry,
    Limit,
    external_json,
    outcome_json,
    planned_json,
    read_entry,
)
from llm_common.db.transport import Json
from llm_common.exceptions import ConfigurationError, DatabaseError, DatabaseUnavailableError, InvalidInputError
from llm_common.ledger.protocol import budgets_that_bind
from llm_common.ledger.writer import DirectWrites, HeldCall, LedgerWrites
from llm_common.models import Budget, BudgetWindow, CostMetrics, Outcome, PlannedCall, Reservation
from llm_common.money import format_usd, to_nano
from llm_common.settings import Settings

__all__ = [
    "AlertCallback",
    "BudgetAlert",
    "BudgetStatus",
    "CostForecast",
    "CostMetrics",
    "CostSummary",
    "CostTracker",
    "OutagePolicy",
]

#: Told once per window and threshold, in one of the processes that share the ledger.
AlertCallback: TypeAlias = Callable[[BudgetAlert], Awaitable[None] | None]

_log = logging.getLogger(__name__)

_ALERT_SECONDS = 10.0
_EXPIRE_ROWS = 100
#: Whether calls go on while the database cannot be reached.
OutagePolicy: TypeAlias = Literal["closed", "spool"]


class CostTracker:
    """Records every call in Postgres and holds it to budgets, in all processes together.

    The first argument is a `Database`, a Postgres URL, a psycopg pool or a Supabase client; None is
    `DATABASE_URL`. The project and the budgets that are not given come from the environment
    (`LLM_COMMON_PROJECT`, `LLM_COMMON_DAILY_BUDGET_USD`, `LLM_COMMON_MONTHLY_BUDGET_USD`).

    `alert_threshold` is a fraction of each limit. Crossing it writes a row to `cost_alerts`, logs a warning and
    calls `on_alert` (a function or a coroutine function, with 10 s of time) once per window; what the callback
    raises is logged, and the call goes on.

    `on_outage` says what happens while the database cannot be reached. `"closed"`: nothing is spent,
    `DatabaseUnavailableError`. `"spool"`: calls go on and are written to the file `spool_path` (readable by its owner
    only) before they are sent and after, and brought into the database by the first call, report or `replay()` that
    reaches it, or by `async with tracker`; each once, in all processes that use the file. Budgets cannot be
    looked at meanwhile, so what all these processes may spend together until the file is replayed is limited by
    `spool_allowance_usd`; by so much, for each machine, a budget can be passed. A spooled call that nobody settled
    (its process died) is charged at its bound, like any other, when its hold is over. A spool belongs to one
    database; processes that share it should have the same allowance.

    Cache hits are rows of kind `cache_hit` at cost 0, and `summarize` counts them apart from the calls that were paid.
    One row takes in many hits of web searches (`calls` of them), for they are handed over in batches: after 50, after
    ten seconds, and when the client is closed.
    """

    wants_answer = False
    waits = True

    def __init__(
        self,
        supabase_client: "DatabaseSource | None" = None,
        daily_budget_usd: Decimal | float | str | None = None,
        monthly_budget_usd: Decimal | float | str | None = None,
        alert_threshold: float = 0.8,
        *,
        project: str | None = None,
        budgets: Sequence[Budget] = (),
        on_alert: AlertCallback | None = None,
        on_outage: OutagePolicy = "closed",
        spool_path: Path | str | None = None,
        spool_allowance_usd: Decimal | float | str | None = None,
    ) -> None:
        if not 0 < alert_threshold <= 1:
            raise InvalidInputError(f"alert_threshold is a fraction of a budget, above 0 to 1, not {alert_threshold!r}")
        settings = Settings.from_environment()
        source = settings.database_url if supabase_client is None else supabase_client
        if source is None:
            raise ConfigurationError("CostTracker has no database: pass one, or set DATABASE_URL")
        self._db = Database.of(source)
        self._db_is_ours = not isinstance(source, Database)
        self._ledger = self._db.ledger
        self._writes = self._writes_for(on_outage, spool_path, spool_allowance_usd)
        self._project = settings.project if project is None else project
        self._alert_threshold = float(alert_threshold)
        self._on_alert = on_alert
        self._spent_today_nano = 0
        daily = settings.daily_budget_usd if daily_budget_usd is None else daily_budget_usd
        monthly = settings.monthly_budget_usd if monthly_budget_usd is None else monthly_budget_usd
        self._budgets = (*_project_budget(daily, "day"), *_project_budget(monthly, "month"), *budgets)

    def _writes_for(
        self, on_outage: OutagePolicy, path: Path | str | None, allowance_usd: Decimal | float | str | None
    ) -> LedgerWrites:
        if on_outage == "closed":
            if path is not None or allowance_usd is not None:
                raise ConfigurationError("spool_path and spool_allowance_usd need on_outage='spool'")
            return DirectWrites(self._ledger)
        if on_outage != "spool":
            raise ConfigurationError(f"on_outage is 'closed' or 'spool', not {on_outage!r}")
        if path is None or allowance_usd is None:
            raise ConfigurationError(
                "on_outage='spool' needs spool_path, a file on a local disk, and spool_allowance_usd, the most that "
                "may be spent while no budget can be looked at"
            )
        from llm_common.ledger.spool import Spool
        from llm_common.ledger.spooled import SpooledLedger

        spool = Spool(Path(path), to_nano(allowance_usd, name="spool_allowance_usd"))
        return SpooledLedger(self._ledger, spool, self._note)

    @property
    def project(self) -> str:
        return self._project

    @property
    def budgets(self) -> tuple[Budget, ...]:
        return self._budgets

    @property
    def spent_today_nano(self) -> int:
        """The project's spend of today, by all processes, as of the last call through this tracker."""
        return self._spent_today_nano

    async def aclose(self) -> None:
        """Close the connections made here. A `Database` that was passed in is its owner's to close."""
        if self._db_is_ours:
            await self._db.aclose()

    async def __aenter__(self) -> Self:
        try:
            await self._writes.catch_up()
        except DatabaseUnavailableError as error:
            _log.warning("what was spooled still waits: %s", error)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- the ledger of clients

    async def reserve(self, call: PlannedCall) -> Reservation:
        """Set `call.bound_nano` aside. Raises `BudgetExceededError`, and then nothing changed.

        Raises `DatabaseUnavailableError` where it can be written nowhere: nothing is sent unrecorded.
        """
        reservation = Reservation(_time_ordered_id(), call)
        try:
            # Over HTTP or a thread a cancelled reserve goes on, and giving back must not overtake it.
            await self._note(await run_shielded(self._writes.reserve(self._held(reservation))))
        except (asyncio.CancelledError, DatabaseUnavailableError):
            # It may have arrived all the same, and would be charged when it expires.
            await run_shielded(self._give_back(reservation.id))
            raise
        return reservation

    async def extend(
        self, reservation: Reservation, more_nano: int, *, model: str | None = None, provider: str | None = None
    ) -> Reservation:
        """Set more aside for a further attempt. Raises `BudgetExceededError`; the first reserve then still stands.

        With `model`, that one is asked now: all that is set aside must fit its budgets as well.
        """
        grown = reservation.call.grown(more_nano, model=model, provider=provider)
        reservation = replace(reservation, call=grown)
        entry = await self._writes.extend(
            self._held(reservation), more_nano, extension_id=_time_ordered_id(), model=model, provider=provider
        )
        await self._note(entry)
        return reservation

    async def settle(self, reservation: Reservation, outcome: Outcome) -> None:
        """Replace the reserve by the truth and write the row. A second settlement changes nothing.

        Tries for about 10 s while the database cannot be reached; then raises `DatabaseUnavailableError`, and the
        reservation is charged at its bound when it expires. Let it run to its end: `run_shielded(...)`.
        """
        try:
            entry = await self._writes.settle(self._held(reservation), outcome_json(outcome))
        except DatabaseUnavailableError as error:
            raise DatabaseUnavailableError(
                f"reservation {reservation.id} could not be settled, so its bound will be charged when it expires; "
                f"settle it again to correct that. {error}",
                sqlstate=error.sqlstate,
            ) from error
        await self._note(entry)

    async def release(self, reservation: Reservation) -> None:
        """Give the reserve back: it is known that nothing was sent. Tries like `settle`."""
        await self._writes.release(reservation.id)

    async def record(self, call: PlannedCall, outcome: Outcome) -> None:
        """Write a row for a call that needed no reserve: a cache hit, at 0."""
        row = {
            **planned_json(call, project=self._project, call_id=_time_ordered_id()),
            **outcome_json(outcome),
        }
        if call.kind == "cache_hit":
            # Nobody was asked for them: the buckets of the row show what the hit saved, and no sum counts them.
            row["tokens_used"] = 0
        await self._record(row, self._limits(call))

    async def replay(self) -> int:
        """Bring what was spooled into the database, once; gives the number of lines. Calls do this by themselves.

        Raises `DatabaseUnavailableError`, and then everything still waits.
        """
        return await self._writes.replay()

    async def note_settlement(self, answer: Json) -> None:
        """Take in what `settle_cost` answered to somebody who called it within another SQL function."""
        await self._note(read_entry(answer))

    # --- costs from elsewhere, and reports

    async def log_cost(self, metrics: CostMetrics, *, idempotency_key: str | None = None) -> None:
        """Write down a cost that happened elsewhere. It counts for budgets, and is never refused by one.

        With a key, logging it again changes nothing.
        """
        row = external_json(metrics, project=self._project, call_id=_time_ordered_id(), key=idempotency_key)
        same = PlannedCall(kind="external", model=metrics.model, provider="", bound_nano=0, step=metrics.step)
        await self._record(row, self._limits(same))

    async def get_daily_cost(self, day: date | str | None = None) -> Decimal:
        """The project's spend in dollars on one day (a date, or `"2026-11-30"`); None is the project's today."""
        wanted = None if day is None else _day(day, "day")
        await self.expire()
        return (await self._ledger.total(self._project, wanted, wanted)).cost_usd

    async def get_monthly_cost(self, year: int, month: int) -> Decimal:
        """The project's spend in dollars in one month."""
        try:
            first = date(year, month, 1)
            last = date(year + month // 12, month % 12 + 1, 1) - date.resolution
        except (ValueError, TypeError) as error:
            raise InvalidInputError(f"there is no month {month!r} of year {year!r}") from error
        await self.expire()
        return (await self._ledger.total(self._project, first, last)).cost_usd

    async def get_cost_breakdown(
        self, start_date: date | str, end_date: date | str, group_by: str = "model"
    ) -> dict[str, Decimal]:
        """Dollars by model, step, provider, project, user or day, dearest first; both days are counted."""
        return {group.key: group.cost_usd for group in await self.summarize(start_date, end_date, group_by)}

    async def summarize(
        self, start_date: date | str, end_date: date | str, group_by: str = "model"
    ) -> list[CostSummary]:
        """Like `get_cost_breakdown`, with the number of calls, failures, cache hits and tokens."""
        start, end = _day(start_date, "start_date"), _day(end_date, "end_date")
        if start > end:
            raise InvalidInputError(f"start_date {start} must not be after end_date {end}")
        await self.expire()
        return await self._ledger.breakdown(start, end, group_by=group_by, project=self._project)

    async def forecast(self, as_of: date | str | None = None) -> CostForecast:
        """What the month will have cost at its end, foretold from the last full days; None is the project's today."""
        wanted = None if as_of is None else _day(as_of, "as_of")
        await self.expire()
        return await self._ledger.forecast(self._project, wanted)

    async def budget_status(self) -> list[BudgetStatus]:
        """What the windows that are open now have spent, reserved and left; the project's own first."""
        await self.expire()
        return await self._ledger.budget_status(self._project, self._standing_limits())

    async def expire(self) -> int:
        """Charge reservations of this project whose owner died; gives their number (at most 100 at a time).

        Reports and further calls do this by themselves.
        """
        await self._writes.catch_up()
        expired, alerts = await self._ledger.expire(max_rows=_EXPIRE_ROWS, project=self._project)
        await self._tell(alerts)
        return expired

    async def set_time_zone(self, time_zone: str) -> None:
        """Let the project's days begin at this zone's midnight (`"Europe/Paris"`). Recorded calls keep their day."""
        await self._ledger.set_time_zone(self._project, time_zone)

    async def _record(self, row: dict[str, Json], limits: Sequence[Limit]) -> None:
        await self._note(await self._writes.record(row, limits))

    def _held(self, reservation: Reservation) -> HeldCall:
        call = reservation.call
        planned = planned_json(call, project=self._project, call_id=reservation.id)
        return HeldCall(planned, self._limits(call), call.hold_seconds, call.bound_nano)

    async def _give_back(self, reservation_id: str) -> None:
        try:
            await self._writes.give_back(reservation_id)
        except DatabaseError as error:
            _log.warning(
                "reservation %s may be charged when it expires, though nothing was sent: %s", reservation_id, error
            )

    async def _note(self, entry: Entry) -> None:
        self._spent_today_nano = entry.spent_today_nano
        await self._tell(entry.alerts)

    async def _tell(self, alerts: Sequence[BudgetAlert]) -> None:
        for alert in alerts:
            _log.warning(
                "budget %s/%s of project %s crossed %s: %s of %s spent",
                *(alert.scope, alert.window, alert.project, alert.threshold),
                *(format_usd(alert.spent_usd), format_usd(alert.limit_usd)),
            )
            try:
                async with asyncio.timeout(_ALERT_SECONDS):
                    told = None if self._on_alert is None else self._on_alert(alert)
                    if inspect.isawaitable(told):
                        await told
            except Exception:  # noqa: BLE001 (a host's callback may raise anything)
                _log.exception("on_alert failed for budget %s/%s; the call goes on", alert.scope, alert.window)

    def _limits(self, call: PlannedCall) -> list[Limit]:
        bound = budgets_that_bind(call, self._budgets)
        return [Limit(scope, window, nano, self._alert_threshold) for (scope, window), nano in bound.items()]

    def _standing_limits(self) -> list[Limit]:
        """Those that bind whoever calls: a budget for each user is not known before there is one."""
        return [
            Limit(
                "project" if budget.value is None else f"{budget.scope}:{budget.value}",
                budget.window,
                to_nano(budget.limit_usd),
            )
            for budget in self._budgets
            if budget.scope == "project" or budget.value is not None
        ]


def _project_budget(limit_usd: Decimal | float | str | None, window: BudgetWindow) -> tuple[Budget, ...]:
    if limit_usd is None:
        return ()
    to_nano(limit_usd, name="daily_budget_usd" if window == "day" else "monthly_budget_usd")
    return (Budget(limit_usd if isinstance(limit_usd, Decimal) else Decimal(str(limit_usd)), window),)


def _time_ordered_id() -> str:
    """A UUID of version 7 (RFC 9562 §5.7): milliseconds first, so that new rows lie side by side in the index."""
    milliseconds = int(datetime.now(UTC).timestamp() * 1000)
    return str(UUID(int=milliseconds << 80 | 7 << 76 | randbits(12) << 64 | 2 << 62 | randbits(62)))


def _day(day: date | str, name: str) -> date:
    if isinstance(day, datetime):
        return day.date()
    if isinstance(day, date):
        return day
    try:
        return date.fromisoformat(day)
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"{name} must be a date or a text like '2026-11-30', not {day!r}") from error
