"""`llm-common runs list|show|resume|cancel|score|queue`."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_common.cli.analyze import interruptible
from llm_common.cli.console import escape, notes, results, write_json
from llm_common.cli.options import AsJson, DatabaseUrl, DataDir, command_database
from llm_common.cli.tables import Column, show_table
from llm_common.exceptions import InvalidInputError
from llm_common.money import format_usd

if TYPE_CHECKING:
    from llm_common.db import Database
    from llm_common.db.functions.queue import QueueStatus
    from llm_common.db.functions.runs import RunRecord

__all__ = ["app"]

app = typer.Typer(help="Pipeline runs: what they came to, and go on with one that stopped.", no_args_is_help=True)

_STATUSES = ("queued", "running", "completed", "failed", "cancelled")

RunId = Annotated[
    str, typer.Argument(help="The run: its id, or how that begins, as `runs list` shows it.", metavar="RUN_ID")
]
#: So many characters of an id are shown, and enough to name a run by.
_SHORT_ID = 8
#: Among so many runs, the latest first, a short id is looked for.
_LOOKED_AT = 1000
_WHOLE_ID, _SHORTEST_ID = 32, 4


@app.command("list")
def list_runs(
    bill_id: Annotated[str | None, typer.Option(help="Only this bill's runs.", show_default=False)] = None,
    status: Annotated[
        str | None, typer.Option(help=f"Only those that are {', '.join(_STATUSES)}.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many, the latest first.")] = 20,
    json: AsJson = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List runs, the latest first."""
    if status is not None and status not in _STATUSES:
        raise InvalidInputError(f"--status {status!r} must be one of {', '.join(_STATUSES)}")

    async def work() -> None:
        async with command_database(database_url, data_dir) as db:
            runs = await db.runs.list(status=status, bill_id=bill_id, limit=limit)
        if json:
            write_json([_document(run) for run in runs])
        elif runs:
            _show_runs(runs)
        elif status or bill_id:
            results.print("no such runs")
        else:
            results.print("no runs yet: llm-common analyze BILL.txt")

    asyncio.run(work())


def _show_runs(runs: "Sequence[RunRecord]") -> None:
    from llm_common.pipeline.run_plan import OFFLINE

    # A whole id where two begin alike, so that what is shown can always be typed.
    heads = Counter(run.id[:_SHORT_ID] for run in runs)
    show_table(
        [
            Column("run"),
            Column("bill", fold=True),
            Column("UTC"),
            Column("status"),
            Column("cost", number=True),
            Column("answered by", optional=True),
        ],
        [
            [
                run.id[:_SHORT_ID] if heads[run.id[:_SHORT_ID]] == 1 else run.id,
                run.bill_id,
                f"{run.started_at:%y-%m-%d %H:%M}",
                f"{run.status}, demo" if run.answered_by == OFFLINE else run.status,
                format_usd(run.cost_usd),
                run.answered_by or "",
            ]
            for run in runs
        ],
    )


def _document(run: "RunRecord") -> dict[str, Any]:
    document = asdict(run)
    for left_out in ("analysis", "review", "steps", "charges"):  # `runs show --json` has them
        document.pop(left_out, None)
    return document


async def _find(db: "Database", run_id: str) -> str:
    """The whole id of the run whose id begins like this."""
    if len(run_id) >= _WHOLE_ID or len(run_id) < _SHORTEST_ID:
        return run_id  # for the database to judge
    begun = run_id.lower()
    found = [run.id for run in await db.runs.list(limit=_LOOKED_AT) if run.id.startswith(begun)]
    if len(found) > 1:
        raise InvalidInputError(f"{len(found)} runs begin with {run_id!r}; give more of the id: {', '.join(found[:5])}")
    return found[0] if found else run_id


@app.command()
def show(run_id: RunId, json: AsJson = False, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Show a run: its analysis, what each step cost, or how it failed."""

    async def work() -> None:
        from llm_common.cli.report import as_document, show_analysis, show_steps
        from llm_common.exceptions import PipelineError
        from llm_common.pipeline import LEGISLATION
        from llm_common.pipeline.result import result_from_run

        async with command_database(database_url, data_dir) as db:
            run = await db.runs.get(await _find(db, run_id))
        if json:
            if run.status != "completed":
                raise PipelineError(f"run {run.id} is {run.status} and has no analysis", run_id=run.id)
            write_json(as_document(result_from_run(run, LEGISLATION), run, None))
            return
        if run.status == "completed":
            show_analysis(result_from_run(run, LEGISLATION))
        elif run.error_message:
            notes.print(f"[red]{run.status}:[/] {escape(run.error_message)}")
        show_steps(run, None)

    asyncio.run(work())


@app.command()
def resume(run_id: RunId, json: AsJson = False, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Go on with a run that failed or was interrupted. Its finished steps are not paid again."""

    async def work() -> None:
        from llm_common.cli.analyze import present
        from llm_common.cli.context import open_context
        from llm_common.cli.progress import Progress

        async with open_context(database_url, data_dir, what="the rest of a run") as here:
            whole_id = await _find(here.db, run_id)
            with Progress() as progress:
                analysis = await here.pipeline.resume(whole_id, on_event=progress.on_event)
            await present(here, analysis, None, as_json=json)

    interruptible(work())


@app.command()
def cancel(run_id: RunId, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Stop a run: at its worker's next sign of life, or at once if nobody works on it. What is finished is kept."""

    async def work() -> None:
        async with command_database(database_url, data_dir) as db:
            run = await db.runs.request_cancel(await _find(db, run_id))
        if run.status == "running":
            results.print(f"{escape(run.worker or 'its worker')} is asked to stop; see: llm-common runs show {run.id}")
        else:
            results.print(run.status)

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
        async with command_database(database_url, data_dir) as db:
            run = await db.runs.score(await _find(db, run_id), quality, note)
        results.print(f"{escape(run.bill_id)}: {run.quality_score}")

    asyncio.run(work())


@app.command()
def queue(json: AsJson = False, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """What waits for a worker, for which code and why, and who works."""

    async def work() -> None:
        async with command_database(database_url, data_dir) as db:
            status = await db.queue.status()
        if json:
            write_json(asdict(status))
        else:
            _show_queue(status)

    asyncio.run(work())


def _show_queue(status: "QueueStatus") -> None:
    if not status.waiting:
        results.print("nothing waits")
    for waiting in status.waiting:
        since = f", the first since {waiting.due_since:%y-%m-%d %H:%M} UTC" if waiting.due_since else ""
        results.print(f"{escape(waiting.code_version)}: {waiting.due:,} due{since}")
        if waiting.next_at is not None:
            why = f": {escape(waiting.reason)}" if waiting.reason else ""
            line = f"  {waiting.delayed:,} delayed, the first until {waiting.next_at:%y-%m-%d %H:%M:%S} UTC{why}"
            results.print(line)
    for busy in status.workers:
        line = f"worker {escape(busy.worker)}, code {escape(busy.code_version)}: {busy.runs:,} running"
        results.print(line)
