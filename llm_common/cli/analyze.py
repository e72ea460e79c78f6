"""`llm-common analyze`: the main job on one bill, or on many."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from llm_common.cli.analyze_options import AnalyzeOptions
from llm_common.cli.console import escape, notes, write_json
from llm_common.cli.options import DatabaseUrl, DataDir
from llm_common.exceptions import InvalidInputError
from llm_common.settings import Settings

if TYPE_CHECKING:
    from llm_common.cli.bills import BillFiles
    from llm_common.cli.context import CommandContext
    from llm_common.pipeline import BillAnalysis

__all__ = ["analyze", "interruptible", "present"]

T = TypeVar("T")
EngineOption = Annotated[
    Literal["asyncio", "ray"],
    typer.Option(help="Where: here, or on the Ray cluster of RAY_ADDRESS, whose nodes have the keys and DATABASE_URL."),
]
StepModels = Annotated[
    list[str] | None,
    typer.Option("--models", help="A model for one step, as step=model; can be repeated.", show_default=False),
]
_STEPS = ("research", "generate", "review", "refine")


def analyze(
    bills: Annotated[
        list[str],
        typer.Argument(
            help="Text file of the bill; - reads standard input. Several files, or a folder: all its *.txt and *.md.",
            metavar="BILL.txt|DIR/...",
        ),
    ],
    jurisdiction: Annotated[str, typer.Option(help="Whose bill it is, such as California.")],
    bill_id: Annotated[
        str | None,
        typer.Option(help="How the bill is called, such as AB-1234; default: as its file.", show_default=False),
    ] = None,
    model: Annotated[str | None, typer.Option(help="One model for all steps.", show_default=False)] = None,
    models: StepModels = None,
    max_rounds: Annotated[int, typer.Option(min=0, help="How often the draft may be refined.")] = 2,
    concurrency: Annotated[int, typer.Option(min=1, help="Of several bills, so many at the same time.")] = 8,
    engine: EngineOption = "asyncio",
    enqueue: Annotated[
        bool, typer.Option("--enqueue", help="Only put them into the queue, for `llm-common worker`.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Play the demo, also where keys are set: a script answers, for nothing.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output; of several bills, one on each line.")
    ] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Analyse bills: research, generate, review, refine. The runs, their steps and costs stay in the database.

    An interrupted run goes on with `llm-common runs resume RUN_ID`; several bills with the same command again, which
    pays for nothing twice.

    Without a key a script plays the models, with its rows in a folder of their own: a demo, and marked as one.
    """
    from llm_common.cli.bills import STANDARD_INPUT, BillFiles, read_bill

    options = AnalyzeOptions(
        jurisdiction=jurisdiction,
        models=_chosen(model, models or []),
        max_rounds=max_rounds,
        concurrency=concurrency,
        engine=engine,
        enqueue=enqueue,
        offline=offline,
        as_json=json,
        database_url=database_url,
        data_dir=data_dir,
    )
    _check(options)
    if len(bills) == 1 and engine == "asyncio" and not enqueue and not Path(bills[0]).is_dir():
        interruptible(_one(options, bill_id or _name(bills[0]), read_bill(bills[0])))
        return
    if bill_id is not None or STANDARD_INPUT in bills:
        raise InvalidInputError("several bills are called as their files: leave out --bill-id and standard input")
    raise typer.Exit(interruptible(_several(options, BillFiles(bills))))


def _check(options: AnalyzeOptions) -> None:
    local = options.enqueue or options.database_url or options.data_dir or not os.environ.get("DATABASE_URL")
    if options.engine == "ray" and local:
        raise InvalidInputError(
            "--engine ray needs a database that the nodes reach: set DATABASE_URL, here and there, and leave out "
            "--database-url, --data-dir and --enqueue"
        )
    if options.offline and (options.enqueue or options.engine == "ray"):
        raise InvalidInputError("--offline plays here and now: leave out --enqueue and --engine")


def _context(options: AnalyzeOptions) -> "AbstractAsyncContextManager[CommandContext]":
    from llm_common.cli.context import open_context, open_demo
    from llm_common.cli.options import has_no_provider

    counted_on = options.enqueue or options.engine == "ray" or options.database_url
    if options.offline or (has_no_provider(Settings.from_environment()) and not counted_on):
        return open_demo(options.database_url, options.data_dir)
    return open_context(options.database_url, options.data_dir, what="what others count on")


async def _several(options: AnalyzeOptions, files: "BillFiles") -> int:
    """Queue or analyse all of `files`; the exit code."""
    from llm_common.cli.analyze_many import analyze_all, enqueue_all

    async with _context(options) as here:
        here.check_models(options.models.values())
        return await (enqueue_all if options.enqueue else analyze_all)(here, files, options)


async def _one(options: AnalyzeOptions, bill_id: str, text: str) -> None:
    from llm_common.cli.progress import Progress

    async with _context(options) as here:
        here.check_models(options.models.values())
        before = await here.search.get_cache_stats()
        with Progress() as progress:
            analysis = await here.pipeline.run(
                bill_id,
                text,
                options.jurisdiction,
                {**here.models, **options.models},
                max_rounds=options.max_rounds,
                on_event=progress.on_event,
            )
        await present(here, analysis, before, as_json=options.as_json)


async def present(
    here: "CommandContext", analysis: "BillAnalysis", before: Mapping[str, Any] | None, *, as_json: bool
) -> None:
    """Show a finished run. `before`: the cache's statistics at its start, None where they do not matter."""
    from llm_common.cli.report import Searches, as_document, show_analysis, show_steps

    run = await here.db.runs.get(analysis.run_id)
    searches: Searches | None = None
    if before is not None:
        after = await here.search.get_cache_stats()
        searches = Searches(
            after["total_searches"] - before["total_searches"], after["cache_hits"] - before["cache_hits"]
        )
    if as_json:
        write_json(as_document(analysis, run, searches))
    else:
        show_analysis(analysis)
        show_steps(run, searches)


def interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run it; Ctrl-C and SIGTERM cancel it, so that it ends in order, with exit code 130."""

    async def watched() -> T:
        task = asyncio.current_task()
        assert task is not None
        if sys.platform != "win32":
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(watched())
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        notes.print("interrupted; what is finished is kept")
        for note in getattr(error.__context__ or error, "__notes__", ()):
            notes.print(escape(note))
        raise typer.Exit(130) from error


def _name(bill: str) -> str:
    if bill == "-":
        raise InvalidInputError("standard input has no name; say with --bill-id how the bill is called")
    return Path(bill).stem


def _chosen(model: str | None, pairs: list[str]) -> dict[str, str]:
    chosen: dict[str, str] = dict.fromkeys(_STEPS, model) if model else {}
    for pair in pairs:
        step, equals, name = pair.partition("=")
        if not equals or not name or step not in _STEPS:
            raise InvalidInputError(f"--models {pair!r} must be step=model with a step of {', '.join(_STEPS)}")
        chosen[step] = name
    return chosen
