"""`llm-common worker`: carries out what waits in the queue, until it is stopped."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from llm_common.cli.analyze import interruptible
from llm_common.cli.console import escape, mark, notes
from llm_common.cli.options import DatabaseUrl, DataDir
from llm_common.money import format_usd

if TYPE_CHECKING:
    from llm_common.pipeline import AnalysisPipeline, Worked, Worker

__all__ = ["worker"]


def worker(
    concurrency: Annotated[int, typer.Option(min=1, help="So many runs at the same time.")] = 8,
    drain: Annotated[bool, typer.Option("--drain", help="End when no run is due any more.")] = False,
    app: Annotated[
        str | None,
        typer.Option(
            help="Your pipeline, as module:factory: a function that gives an async context manager with it. "
            "Default: the built-in one, from the environment.",
            show_default=False,
        ),
    ] = None,
    grace_seconds: Annotated[
        float, typer.Option(min=0, help="When stopped, wait so long for steps under way; then cut them off.")
    ] = 25.0,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Carry out enqueued runs, on as many machines as you like. Each worker takes only the runs of its code version.

    Ctrl-C or SIGTERM: claims no more, finishes the steps under way, and gives the runs back to the queue; a second one
    cuts them off.
    """

    async def work() -> None:
        from llm_common.pipeline import Worker

        async with _opened(app, database_url, data_dir) as pipeline:
            mine = Worker(pipeline, concurrency=concurrency, grace_seconds=grace_seconds, on_worked=_show)
            _stop_on_signals(mine)
            notes.print(f"worker {mine.name}, code {pipeline.code_version}")
            await (mine.drain() if drain else mine.work())
        notes.print("stopped; nothing is left running")

    interruptible(work())


def _opened(
    app: str | None, database_url: str | None, data_dir: Path | None
) -> "AbstractAsyncContextManager[AnalysisPipeline[Any]]":
    if app is None:
        return _built_in(database_url, data_dir)
    from llm_common.pipeline.factory import load_factory

    return cast("AbstractAsyncContextManager[AnalysisPipeline[Any]]", load_factory(app)())


@asynccontextmanager
async def _built_in(database_url: str | None, data_dir: Path | None) -> AsyncGenerator["AnalysisPipeline[Any]"]:
    from llm_common.cli.context import open_context

    async with open_context(database_url, data_dir, what="the work of others") as here:
        yield here.pipeline


def _stop_on_signals(mine: "Worker") -> None:
    # On Windows a Ctrl-C cancels the task instead, which gives the runs back too.
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, mine.stop)


def _show(worked: "Worked") -> None:
    if worked.analysis is not None:
        told = f"{mark('done')} {escape(worked.bill_id)} {worked.run_id} {format_usd(worked.analysis.cost_usd)}"
    else:
        from llm_common.pipeline.dispositions import told as why

        note = "; ".join(getattr(worked.error, "__notes__", ()))
        told = (
            f"[yellow]-[/] {escape(worked.bill_id)} {escape(f'{why(worked.error)}; {note}' if worked.error else note)}"
        )
    notes.print(told)
