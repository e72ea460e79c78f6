"""`llm-common costs`: what was spent, on what, what the budgets have left, and where the month is heading."""

import asyncio
import csv
import json as json_text
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.bar import Bar
from rich.markup import escape
from rich.table import Table

from llm_common.cli.console import results
from llm_common.cli.database import DatabaseUrl, DataDir
from llm_common.db.functions.ledger import BudgetStatus, CostForecast, CostSummary
from llm_common.exceptions import InvalidInputError
from llm_common.money import format_usd

if TYPE_CHECKING:
    from llm_common.cost_tracker import CostTracker
    from llm_common.db import Database

__all__ = ["costs"]

_BAR_COLUMNS = 24


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
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The breakdown alone, as CSV on standard output.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Show what was spent today and this month, the budgets, the forecast, and a breakdown.

    Days are those of the project's time zone. Dead calls are charged first, nothing else is changed.
    """
    if json and as_csv:
        raise InvalidInputError("choose one of --json and --csv")

    async def work() -> None:
        from llm_common.cost_tracker import CostTracker
        from llm_common.db import Database

        async with Database.connect(database_url, data_dir=data_dir) as db:
            found = await _ask(CostTracker(db, project=project), db, by.value, _day(first), _day(last))
        if json:
            sys.stdout.write(json_text.dumps(asdict(found), indent=2, ensure_ascii=False, default=_plain) + "\n")
        elif as_csv:
            _write_csv(found.groups)
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


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no part of a cost report")


def _write_csv(groups: Sequence[CostSummary]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["key", "cost_usd", "calls", "failed", "cache_hits", "tokens"])
    for group in groups:
        cost = format(group.cost_usd, "f")
        writer.writerow([group.key, cost, group.calls, group.failed, group.cache_hits, group.tokens])


def _show(found: Costs) -> None:
    results.print(f"[bold]project {escape(found.project)}[/]", highlight=False)
    table = _table("", "cost", "calls", "failed", "cache hits", "tokens")
    table.add_row(f"today, {found.forecast.as_of}", *_figures(found.today))
    table.add_row("month to date", *_figures(found.month))
    results.print(table)
    results.print(_foretold(found.forecast), highlight=False)
    results.print()
    results.print(_budgets(found.budgets))
    results.print()
    if found.groups:
        results.print(_breakdown(found))
    else:
        results.print(f"no calls from {found.first} to {found.last}", highlight=False)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


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


def _budgets(budgets: Sequence[BudgetStatus]) -> Table | str:
    limited = [status for status in budgets if status.limit_usd is not None]
    if not limited:
        return "no budget is set: LLM_COMMON_DAILY_BUDGET_USD, LLM_COMMON_MONTHLY_BUDGET_USD"
    table = _table("budget", "limit", "spent", "reserved", "left", "resets (UTC)")
    for status in limited:
        limit = status.limit_usd or Decimal(0)
        left = limit - status.spent_usd - status.reserved_usd
        table.add_row(
            escape(f"{status.scope}/{status.window}"),
            *(format_usd(amount) for amount in (limit, status.spent_usd, status.reserved_usd, max(left, Decimal(0)))),
            "never" if status.resets_at is None else f"{status.resets_at:%y-%m-%d %H:%M}",
        )
    return table


def _breakdown(found: Costs) -> Table:
    groups = sorted(found.groups, key=lambda group: group.key) if found.by == "day" else found.groups
    most = max(group.cost_usd for group in groups) or Decimal(1)
    table = _table(f"{found.by}, {found.first} to {found.last}", "cost", "calls", "failed", "cache hits", "tokens")
    if results.is_terminal:
        table.add_column("")
    for group in groups:
        row = (escape(group.key), *_figures(group))
        if results.is_terminal:
            bar = Bar(float(most), 0, float(group.cost_usd), width=_BAR_COLUMNS, color="green")
            table.add_row(*row, bar)
        else:
            table.add_row(*row)
    return table
