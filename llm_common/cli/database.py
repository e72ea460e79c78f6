"""`llm-common migrate` and `llm-common db status|stop`."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from llm_common.cli.console import escape, notes, results
from llm_common.cli.options import DatabaseUrl, DataDir, command_database, data_folder

__all__ = ["app", "migrate"]

app = typer.Typer(help="The embedded Postgres: is it running, and stop it.", no_args_is_help=True)


def migrate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and undo it: nothing changes.")
    ] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Create or update the tables and functions, all of it or nothing. Safe to repeat.

    Tables of the documents' first schema become ours, with every row. A host's own table of one of our names is
    named, and then nothing is changed.
    """

    async def apply() -> tuple[Sequence[str], Sequence[str]]:
        async with command_database(database_url, data_dir) as db:
            if not dry_run:
                return await db.migrate(), ()
            rehearsal = await db.rehearse_migration()
            return rehearsal.names, rehearsal.notes

    names, noted = asyncio.run(apply())
    for name in names:
        results.print(f"{'would apply' if dry_run else 'applied'} {name}")
    for note in noted:
        results.print(f"would be: {escape(note)}")
    if not names:
        results.print("up to date")


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
