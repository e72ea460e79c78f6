"""`llm-common migrate` and `llm-common db status|stop`."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from llm_common.cli.console import escape, notes, results
from llm_common.cli.options import DatabaseUrl, DataDir, command_database, data_folder

if TYPE_CHECKING:
    from llm_common.db.migrate import MigrationPlan

__all__ = ["app", "migrate"]

app = typer.Typer(help="The embedded Postgres: is it running, and stop it.", no_args_is_help=True)


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only say what was done.")] = False,
    repeat: Annotated[
        bool, typer.Option("--repeat", help="Apply again what is applied, as after roles were created.")
    ] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Create or update the tables and functions, all of it or nothing. Safe to repeat.

    Tables of the documents' first schema become ours, with every row. A host's own table of one of our names is
    named, and then nothing is changed.
    """

    async def lines() -> Sequence[str]:
        async with command_database(database_url, data_dir) as db:
            if status:
                return [f"{migration.state:<8} {migration.name}" for migration in await db.migrations()]
            if dry_run:
                return _planned(await db.migration_plan())
            return [f"applied {name}" for name in await db.migrate(repeat=repeat)]

    for line in asyncio.run(lines()) or ["up to date"]:
        results.print(escape(line), soft_wrap=True)


def _planned(plan: "MigrationPlan") -> list[str]:
    lines = [f"would apply {name}" for name in plan.files]
    for found in plan.conversions:
        lines.append(f"would convert public.{found.table} of the first schema: {found.rows:,} rows, all kept")
        if found.kept_open:
            lines.append(f"  still reached by its grants: {found.kept_open}")
        if found.closed_to:
            lines.append(f"  closed to: {found.closed_to}")
    return lines + [f"would replace the function public.{called}" for called in plan.replaced_functions]


@app.command()
def status(data_dir: DataDir = None) -> None:
    """Say where the embedded Postgres keeps its data and whether it runs."""
    from llm_common.db import embedded

    state = embedded.status(data_folder(data_dir))
    results.print(f"data folder  {state.data_dir}", soft_wrap=True)
    results.print(f"version      {state.version or 'not created yet'}")
    results.print(f"running      {f'yes, process {state.pid}' if state.running else 'no'}")
    if state.dsn:
        results.print(f"url          {state.dsn}", soft_wrap=True)


@app.command()
def stop(data_dir: DataDir = None) -> None:
    """Stop the embedded Postgres. Its data stays; the next command starts it again."""
    from llm_common.db import embedded

    notes.print("stopped" if embedded.stop(data_folder(data_dir)) else "it was not running")
