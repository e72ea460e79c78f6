"""`llm-common runs list|show|resume|cancel|score|queue`."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from llm_common.cli.analyze import interruptible
from llm_common.cli.console import notes, results
from llm_common.cli.database import DatabaseUrl, DataDir
from llm_common.exceptions import InvalidInputError
from llm_common.money import format_usd

if TYPE_CHECKING:
    from llm_common.db.functions.queue import QueueStatus

__all__ = ["app"]

app = typer.Typer(help="Pipeline runs: what they came to, and go on with one that stopped.", no_args_is_help=True)

_STATUSES = ("queued", "running", "completed", "failed", "cancelled")

RunId = Annotated[str, typer.Argument(help="The run, as `llm-common runs list` shows it.", metavar="RUN_ID")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


@app.command("list")
def list_runs(
    bill_id: Annotated[str | None, typer.Option(help="Only this bill's runs.", show_default=False)] = None,
    status: Annotated[
        str | None, typer.Option(help=f"Only those that are {', '.join(_STATUSES)}.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the latest first.")] = 20,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List runs, the latest first."""
    if status is not None and status not in _STATUSES:
        raise InvalidInputError(f"--status {status!r} must be one of {', '.join(_STATUSES)}")

    async def work() -> None:
        from llm_common.db import Database

        async with Database.connect(database_url, data_dir=data_dir) as db:
            runs = await db.runs.list(status=status, bill_id=bill_id, limit=limit)
        table = Table(box=None, pad_edge=False)
        table.add_column("run", no_wrap=True)
        table.add_column("bill", overflow="fold")
        table.add_column("UTC", no_wrap=True)
        table.add_column("status", no_wrap=True)
        table.add_column("cost", justify="right", no_wrap=True)
        for run in runs:
            started = f"{run.started_at:%y-%m-%d %H:%M}"
            table.add_row(run.id, escape(run.bill_id), started, run.status, format_usd(run.cost_usd))
        results.print(table if runs else "no runs yet: llm-common analyze BILL.txt")

    asyncio.run(work())


@app.command()
def show(run_id: RunId, json: AsJson = False, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Show a run: its analysis, what each step cost, or how it failed."""

    async def work() -> None:
        from llm_common.cli.report import as_document, show_analysis, show_steps
        from llm_common.db import Database
        from llm_common.exceptions import PipelineError
        from llm_common.pipeline import LEGISLATION
        from llm_common.pipeline.result import result_from_run

        async with Database.connect(database_url, data_dir=data_dir) as db:
            run = await db.runs.get(run_id)
        if json:
            if run.status != "completed":
                raise PipelineError(f"run {run_id} is {run.status} and has no analysis", run_id=run_id)
            sys.stdout.write(as_document(result_from_run(run, LEGISLATION), run, None) + "\n")
            return
        if run.status == "completed":
            show_analysis(result_from_run(run, LEGISLATION))
        elif run.error_message:
            notes.print(f"[red]{run.status}:[/] {escape(run.error_message)}", highlight=False)
        show_steps(run, None)

    asyncio.run(work())


@app.command()
def resume(run_id: RunId, json: AsJson = False, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Go on with a run that failed or was interrupted. Its finished steps are not paid again."""

    async def work() -> None:
        from llm_common.cli.analyze import present
        from llm_common.cli.context import workplace
        from llm_common.cli.progress import Progress

        async with workplace(database_url, data_dir) as here:
            with Progress() as progress:
                analysis = await here.pipeline.resume(run_id, on_event=progress.on_event)
            await present(here, analysis, None, as_json=json)

    interruptible(work())


@app.command()
def cancel(run_id: RunId, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Stop a run: at its worker's next sign of life, or at once if nobody works on it. What is finished is kept."""

    async def work() -> None:
        from llm_common.db import Database

        async with Database.connect(database_url, data_dir=data_dir) as db:
            run = await db.runs.request_cancel(run_id)
        if run.status == "running":
            results.print(f"{run.worker} is asked to stop; see: llm-common runs show {run.id}", highlight=False)
        else:
            results.print(run.status, highlight=False)

    asyncio.run(work())


@app.command()
def score(
    run_id: RunId,
    quality: Annotated[float, typer.Argument(help="From 0 to 1.", metavar="QUALITY")],
    note: Annotated[str | None, typer.Option(help="Why.", show_default=False)] = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Say how good an analysis is. Models are compared by it."""

    async def work() -> None:
        from llm_common.db import Database

        async with Database.connect(database_url, data_dir=data_dir) as db:
            run = await db.runs.score(run_id, quality, note)
        results.print(f"{run.bill_id}: {run.quality_score}", highlight=False)

    asyncio.run(work())


@app.command()
def queue(database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """What waits for a worker, for which code and why, and who works."""

    async def work() -> None:
        from llm_common.db import Database

        async with Database.connect(database_url, data_dir=data_dir) as db:
            _show_queue(await db.queue.status())

    asyncio.run(work())


def _show_queue(status: "QueueStatus") -> None:
    if not status.waiting:
        results.print("nothing waits", highlight=False)
    for waiting in status.waiting:
        since = f", the first since {waiting.due_since:%y-%m-%d %H:%M} UTC" if waiting.due_since else ""
        results.print(f"{escape(waiting.code_version)}: {waiting.due:,} due{since}", highlight=False)
        if waiting.next_at is not None:
            why = f": {escape(waiting.reason)}" if waiting.reason else ""
            told = f"  {waiting.delayed:,} delayed, the first until {waiting.next_at:%y-%m-%d %H:%M:%S} UTC{why}"
            results.print(told, highlight=False)
    for busy in status.workers:
        told = f"worker {escape(busy.worker)}, code {escape(busy.code_version)}: {busy.runs:,} running"
        results.print(told, highlight=False)
