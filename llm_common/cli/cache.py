"""`llm-common cache stats|clear`: what the search cache did, and forget what is in it."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, cast

import typer

from llm_common.cli.console import notes, results, write_json
from llm_common.cli.options import AsJson, DatabaseUrl, DataDir, command_database
from llm_common.cli.tables import Column, show_table
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
    json: AsJson = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Show hits by tier, misses, errors and money, in all, by provider and by day."""

    async def work() -> None:
        async with command_database(database_url, data_dir) as db:
            figures = _with_dollars(await db.search_cache.stats())
        if json:
            write_json(figures)
            return
        _show(figures)
        results.print(f"entries in Postgres: {figures['entries']:,}")

    asyncio.run(work())


@app.command()
def clear(
    query: Annotated[
        str | None, typer.Option(help="Only this query, however it is spelled and filtered.", show_default=False)
    ] = None,
    prefix: Annotated[str | None, typer.Option(help="Only queries that begin like this.", show_default=False)] = None,
    json: AsJson = False,
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
        async with command_database(database_url, data_dir) as db:
            return await db.search_cache.invalidate(scope, target)

    forgotten = asyncio.run(work())
    if json:
        write_json({"forgotten": forgotten})
    else:
        notes.print(f"forgot {forgotten:,} cached searches")


def _with_dollars(figures: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with `spent_usd` and `saved_usd` as decimal strings wherever there is money."""
    told: dict[str, Any] = {}
    for name, value in figures.items():
        told[name] = _with_dollars(cast("Mapping[str, Any]", value)) if isinstance(value, dict) else value
    for name, column in _MONEY.items():
        if column in figures:
            told[f"{name}_usd"] = str(to_usd(figures[column]))
    return told


def _show(figures: Mapping[str, Any]) -> None:
    groups = [row for group in ("by_provider", "by_day") for row in sorted(figures[group].items())]
    show_table(
        [Column(""), *(Column(heading, number=True) for heading in (*_COLUMNS, *_MONEY))],
        [[name, *_cells(row)] for name, row in [("all", figures), *groups]],
    )


def _cells(figures: Mapping[str, Any]) -> list[str]:
    counted = [f"{figures[c]:.1%}" if c == "hit_rate" else f"{figures[c]:,}" for c in _COLUMNS.values()]
    return counted + [format_usd(to_usd(figures[column])) for column in _MONEY.values()]
