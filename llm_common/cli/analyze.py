"""`llm-common analyze`: the main job on one bill."""

import asyncio
import signal
import sys
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from llm_common.cli.bills import read_bill
from llm_common.cli.database import DatabaseUrl, DataDir
from llm_common.cli.terminal import notes
from llm_common.exceptions import InvalidInputError

if TYPE_CHECKING:
    from llm_common.cli.workplace import Workplace
    from llm_common.pipeline import BillAnalysis

__all__ = ["analyze", "interruptible", "present"]

T = TypeVar("T")
_STEPS = ("research", "generate", "review", "refine")


def analyze(
    bill: Annotated[str, typer.Argument(help="Text file of the bill; - reads standard input.", metavar="BILL.txt")],
    bill_id: Annotated[str, typer.Option(help="How the bill is called, such as AB-1234.")],
    jurisdiction: Annotated[str, typer.Option(help="Whose bill it is, such as California.")],
    model: Annotated[str | None, typer.Option(help="One model for all steps.", show_default=False)] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--models", help="A model for one step, as step=model; can be repeated.", show_default=False),
    ] = None,
    max_rounds: Annotated[int, typer.Option(min=0, help="How often the draft may be refined.")] = 2,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Analyse a bill: research, generate, review, refine. The run, its steps and its costs stay in the database.

    An interrupted run goes on with `llm-common runs resume RUN_ID`.
    """
    text = read_bill(bill)
    chosen = _chosen(model, models or [])

    async def work() -> None:
        from llm_common.cli.progress import Progress
        from llm_common.cli.workplace import workplace

        async with workplace(database_url, data_dir) as here:
            here.check_models(chosen.values())
            before = await here.search.get_cache_stats()
            with Progress() as progress:
                analysis = await here.pipeline.run(
                    bill_id, text, jurisdiction, here.models | chosen, max_rounds=max_rounds, on_event=progress.on_event
                )
            await present(here, analysis, before, as_json=json)

    interruptible(work())


async def present(
    here: "Workplace", analysis: "BillAnalysis", before: Mapping[str, Any] | None, *, as_json: bool
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
        sys.stdout.write(as_document(analysis, run, searches) + "\n")
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
        notes.print("interrupted; what is finished is kept", highlight=False)
        for note in getattr(error.__context__ or error, "__notes__", ()):
            notes.print(note, highlight=False)
        raise typer.Exit(130) from error


def _chosen(model: str | None, pairs: list[str]) -> dict[str, str]:
    chosen: dict[str, str] = dict.fromkeys(_STEPS, model) if model else {}
    for pair in pairs:
        step, equals, name = pair.partition("=")
        if not equals or not name or step not in _STEPS:
            raise InvalidInputError(f"--models {pair!r} must be step=model with a step of {', '.join(_STEPS)}")
        chosen[step] = name
    return chosen
