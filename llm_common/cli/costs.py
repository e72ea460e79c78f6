"""`llm-common costs`: what was spent, on what, what the budgets have left, and where the month is heading."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from llm_common.cli.console import escape, results, write_json
from llm_common.cli.options import (
    DEMO_PROJECT,
    AsCsv,
    AsJson,
    DatabaseUrl,
    DataDir,
    RawCsv,
    command_database,
    default_project,
)
from llm_common.cli.tables import Column, bar, show_table, write_csv
from llm_common.db.functions.ledger import BudgetStatus, CostForecast, CostSummary
from llm_common.exceptions import InvalidInputError
from llm_common.money import format_usd

if TYPE_CHECKING:
    from llm_common.cost_tracker import CostTracker
    from llm_common.db import Database

__all__ = ["costs"]

_BAR_COLUMNS = 24
_COUNTS = ("cost", "calls", "failed", "cache hits", "tokens")


class Group(StrEnum):
    """What a breakdown can be by."""

    model = "model"
    step = "step"
    provider = "provider"
    project = "project"
    user = "user"
    day = "day"


@dataclass(frozen=True, slots=True)
class Costs:
    """`groups` are of the days `first` to `last`, both counted; all projects if by project, else of this one."""

    project: str
    today: CostSummary
    month: CostSummary
    forecast: CostForecast
    budgets: Sequence[BudgetStatus]
    by: str
    first: date
    last: date
    groups: Sequence[CostSummary]


def costs(
    by: Annotated[Group, typer.Option(help="What to add up by.")] = Group.model,
    first: Annotated[
        str | None, typer.Option("--from", help="First day, as 2026-11-30; default: of this month.", show_default=False)
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", help="Last day, counted; default: today.", show_default=False)
    ] = None,
    project: Annotated[
        str | None, typer.Option(help="Default: LLM_COMMON_PROJECT, else default.", show_default=False)
    ] = None,
    json: AsJson = False,
    as_csv: AsCsv = False,
    raw_csv: RawCsv = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Show what was spent today and this month, the budgets, the forecast, and a breakdown.

    Days are those of the project's time zone. Dead calls are charged first, nothing else is changed.
    """
    if json + as_csv + raw_csv > 1:
        raise InvalidInputError("choose one of --json, --csv and --raw-csv")

    async def work() -> None:
        from llm_common.cost_tracker import CostTracker

        async with command_database(database_url, data_dir) as db:
            tracker = CostTracker(db, project=project or default_project())
            found = await _ask(tracker, db, by.value, _day(first), _day(last))
        if json:
            write_json(asdict(found))
        elif as_csv or raw_csv:
            _write_csv(found.groups, raw=raw_csv)
        else:
            _show(found)

    asyncio.run(work())


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError(f"{text!r} is no day; write it like 2026-11-30") from error


async def _ask(tracker: "CostTracker", db: "Database", by: str, first: date | None, last: date | None) -> Costs:
    forecast = await tracker.forecast()
    today = forecast.as_of
    first, last = first or min(today.replace(day=1), last or today), last or today
    everybody = by == "project"
    return Costs(
        project=tracker.project,
        today=await db.ledger.total(tracker.project, today, today),
        month=await db.ledger.total(tracker.project, today.replace(day=1), today),
        forecast=forecast,
        budgets=await tracker.budget_status(),
        by=by,
        first=first,
        last=last,
        groups=await db.ledger.breakdown(first, last, group_by=by, project=None if everybody else tracker.project),
    )


def _write_csv(groups: Sequence[CostSummary], *, raw: bool) -> None:
    rows = [[one.key, one.cost_usd, one.calls, one.failed, one.cache_hits, one.tokens] for one in groups]
    write_csv(["key", "cost_usd", "calls", "failed", "cache_hits", "tokens"], rows, raw=raw)


def _show(found: Costs) -> None:
    results.print(f"[bold]project {escape(found.project)}[/]")
    if found.project == DEMO_PROJECT:
        results.print("[yellow]demo: what it would have cost, nobody was paid[/]")
    rows = ((f"today, {found.forecast.as_of}", found.today), ("month to date", found.month))
    show_table(_columns("", *_COUNTS), [[name, *_figures(summary)] for name, summary in rows])
    results.print(_foretold(found.forecast))
    results.print()
    _show_budgets(found.budgets)
    results.print()
    if found.groups:
        _show_breakdown(found)
    else:
        results.print(f"no calls from {found.first} to {found.last}")


def _columns(first: str, *numbers: str) -> list[Column]:
    return [Column(first, fold=True), *(Column(name, number=True) for name in numbers)]


def _figures(summary: CostSummary) -> tuple[str, ...]:
    paid = summary.calls - summary.cache_hits
    counts = (paid, summary.failed, summary.cache_hits, summary.tokens)
    return (format_usd(summary.cost_usd), *(f"{count:,}" for count in counts))


def _foretold(forecast: CostForecast) -> str:
    if forecast.expected_usd is None or forecast.low_usd is None or forecast.high_usd is None:
        return f"no forecast yet: it takes 3 full days of spending, and there are {forecast.basis_days}"
    return (
        f"by {forecast.ends}: about {format_usd(forecast.expected_usd)}, likely {format_usd(forecast.low_usd)} to "
        f"{format_usd(forecast.high_usd)} (from the last {forecast.basis_days} full days)"
    )


def _show_budgets(budgets: Sequence[BudgetStatus]) -> None:
    rows = [_budget(status, status.limit_usd) for status in budgets if status.limit_usd is not None]
    if rows:
        show_table(_columns("budget", "limit", "spent", "reserved", "left", "resets (UTC)"), rows)
    else:
        results.print("no budget is set: LLM_COMMON_DAILY_BUDGET_USD, LLM_COMMON_MONTHLY_BUDGET_USD")


def _budget(status: BudgetStatus, limit: Decimal) -> list[str]:
    left = max(limit - status.spent_usd - status.reserved_usd, Decimal(0))
    return [
        f"{status.scope}/{status.window}",
        *(format_usd(amount) for amount in (limit, status.spent_usd, status.reserved_usd, left)),
        "never" if status.resets_at is None else f"{status.resets_at:%y-%m-%d %H:%M}",
    ]


def _show_breakdown(found: Costs) -> None:
    groups = sorted(found.groups, key=lambda group: group.key) if found.by == "day" else found.groups
    most = max(group.cost_usd for group in groups) or Decimal(1)
    columns = _columns(f"{found.by}, {found.first} to {found.last}", *_COUNTS)
    rows = [[group.key, *_figures(group)] for group in groups]
    if results.is_terminal:
        columns.append(Column("", optional=True))
        for row, group in zip(rows, groups, strict=True):
            row.append(bar(float(group.cost_usd / most), _BAR_COLUMNS))
    show_table(columns, rows)
