"""`llm-common cache stats|clear`: what the search cache did, and forget what is in it."""

import asyncio
import json as json_format
import sys
from collections.abc import Mapping
from typing import Annotated, Any, cast

import typer
from rich.table import Table

from llm_common.cli.console import notes, results
from llm_common.cli.database import DatabaseUrl, DataDir
from llm_common.exceptions import InvalidInputError
from llm_common.money import format_usd, to_usd

__all__ = ["app"]

app = typer.Typer(help="The search cache: what it saved, and forget what is in it.", no_args_is_help=True)

_COLUMNS = {
    "searches": "total_searches",
    "hit rate": "hit_rate",
    "memory": "memory_hits",
    "postgres": "db_hits",
    "stale": "stale_hits",
    "coalesced": "coalesced",
    "misses": "misses",
    "errors": "errors",
}
_MONEY = {"spent": "spent_nano", "saved": "saved_nano"}


@app.command()
def stats(
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Show hits by tier, misses, errors and money, in all, by provider and by day."""

    async def work() -> None:
        from llm_common.db import Database

        async with Database.connect(database_url, data_dir=data_dir) as db:
            figures = _with_dollars(await db.search_cache.stats())
        if json:
            sys.stdout.write(json_format.dumps(figures, indent=2) + "\n")
            return
        results.print(_table(figures))
        results.print(f"entries in Postgres: {figures['entries']:,}", highlight=False)

    asyncio.run(work())


@app.command()
def clear(
    query: Annotated[
        str | None, typer.Option(help="Only this query, however it is spelled and filtered.", show_default=False)
    ] = None,
    prefix: Annotated[str | None, typer.Option(help="Only queries that begin like this.", show_default=False)] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before forgetting everything.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Forget cached searches. Running processes keep theirs in memory until its time there ends."""
    from llm_common.search.query import fold

    if query is not None and prefix is not None:
        raise InvalidInputError("--query and --prefix exclude each other; pass one of them")
    target = fold(query if query is not None else prefix or "")
    if (query is not None or prefix is not None) and not target:
        raise InvalidInputError("an empty query is in no cache; leave --query and --prefix out to forget everything")
    scope = "query" if query is not None else "prefix" if prefix is not None else "all"
    if scope == "all" and not yes:
        typer.confirm(
            "Forget all cached searches? They are paid for again when they are asked again.", abort=True, err=True
        )

    async def work() -> int:
        from llm_common.db import Database

        async with Database.connect(database_url, data_dir=data_dir) as db:
            return await db.search_cache.invalidate(scope, target)

    notes.print(f"forgot {asyncio.run(work()):,} cached searches", highlight=False)


def _with_dollars(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with `spent_usd` and `saved_usd` as decimal strings wherever there is money."""
    told: dict[str, Any] = {}
    for name, value in figures.items():
        told[name] = _with_dollars(cast("Mapping[str, Any]", value)) if isinstance(value, dict) else value
    for name, column in _MONEY.items():
        if column in figures:
            told[f"{name}_usd"] = str(to_usd(figures[column]))
    return told


def _table(figures: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in (*_COLUMNS, *_MONEY):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row("all", *_cells(figures), style="bold")
    for group in ("by_provider", "by_day"):
        for name, row in sorted(figures[group].items()):
            table.add_row(name, *_cells(row))
    return table


def _cells(figures: Mapping[str, Any]) -> list[str]:
    counted = [f"{figures[c]:.1%}" if c == "hit_rate" else f"{figures[c]:,}" for c in _COLUMNS.values()]
    return counted + [format_usd(to_usd(figures[column])) for column in _MONEY.values()]
