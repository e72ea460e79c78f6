"""`llm-common analyze` on several bills: a line for each, a bar while they are at it, totals at the end."""

from collections.abc import Sequence
from contextlib import aclosing
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from llm_common.cli.analyze_options import AnalyzeOptions
from llm_common.cli.bills import BillFiles
from llm_common.cli.console import escape, mark, notes, results, write_json
from llm_common.cli.context import NODE_PIPELINE
from llm_common.cli.errors import exit_code
from llm_common.exceptions import LLMCommonError
from llm_common.money import format_usd

if TYPE_CHECKING:
    from llm_common.cli.context import CommandContext
    from llm_common.pipeline import BillAnalysis, RunResult

__all__ = ["analyze_all", "enqueue_all"]


async def analyze_all(here: "CommandContext", bills: BillFiles, options: AnalyzeOptions) -> int:
    """Analyse them; gives the exit code: 0 where all are completed, else 1 or, where all failed for it, 2."""
    with _Totals(len(bills)) as totals:
        stream = here.pipeline.stream_many(
            bills.items(options.jurisdiction),
            {**here.models, **options.models},
            concurrency=options.concurrency,
            max_rounds=options.max_rounds,
            engine=options.engine,
            factory=NODE_PIPELINE if options.engine == "ray" else None,
        )
        async with aclosing(stream) as many:
            async for result in many:
                cost = await _cost(here, result)
                totals.add(result.bill_id, cost, result.error)
                if options.as_json:
                    write_json(_document(result, cost), indent=None)
        for name, error in bills.unreadable.items():
            totals.add(name, Decimal(0), error)
            if options.as_json:
                write_json({"bill_id": name, "run_id": None, "cost_usd": "0", **_error(error)}, indent=None)
    if not options.as_json:
        results.print(totals.summary())
    return totals.exit_code()


async def enqueue_all(here: "CommandContext", bills: BillFiles, options: AnalyzeOptions) -> int:
    """Only put them into the queue; gives the exit code as `analyze_all`."""
    models = {**here.models, **options.models}
    enqueued = await here.pipeline.enqueue(bills.items(options.jurisdiction), models, max_rounds=options.max_rounds)
    errors = [*(run.error for run in enqueued if run.error is not None), *bills.unreadable.values()]
    for error in errors:
        notes.print(f"{mark('failed')} {escape(str(error))}")
    if options.as_json:
        for run in enqueued:
            row = {"bill_id": run.bill_id, "run_id": run.run_id, "status": run.status}
            write_json({**row, **_error(run.error)}, indent=None)
        for name, error in bills.unreadable.items():
            write_json({"bill_id": name, "run_id": None, "status": None, **_error(error)}, indent=None)
    else:
        results.print(_enqueued([run.status for run in enqueued]))
    return _exit_code(len(enqueued) - len(errors), errors)


def _enqueued(statuses: Sequence[str | None]) -> str:
    counts = {status: statuses.count(status) for status in ("queued", "running", "completed")}
    shown = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
    return (shown or "nothing enqueued") + ("; carry them out with: llm-common worker" if counts["queued"] else "")


class _Totals:
    """What came of it so far: shown as a bar on a terminal, as a line for each bill otherwise."""

    def __init__(self, total: int) -> None:
        self._total, self._completed, self._cost = total, 0, Decimal(0)
        self._errors: list[Exception] = []
        self._bar = Bar(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[shown]}"),
            TimeRemainingColumn(),
            console=notes,
            disable=not notes.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, shown="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()
        if error is not None:
            notes.print(f"{self.summary()}; what was begun is back in the queue")
            notes.print("go on with the same command, or with: llm-common worker")

    def add(self, bill_id: str, cost: Decimal, error: Exception | None) -> None:
        self._cost += cost
        if error is None:
            self._completed += 1
            sign, shown = mark("done"), format_usd(cost)
        else:
            self._errors.append(error)
            sign, shown = mark("failed"), escape(_text(error))
        self._bar.update(self._task, advance=1, shown=f"{format_usd(self._cost)}, {len(self._errors)} failed")
        done = self._completed + len(self._errors)
        self._bar.console.print(f"{sign} {done}/{self._total} {escape(bill_id)} {shown}")

    def summary(self) -> str:
        failed = f", {len(self._errors):,} failed" if self._errors else ""
        return f"{self._completed:,} of {self._total:,} analysed{failed}, {format_usd(self._cost)}"

    def exit_code(self) -> int:
        return _exit_code(self._completed, self._errors)


def _exit_code(completed: int, errors: Sequence[Exception]) -> int:
    if not errors:
        return 0
    to_set_right = all(isinstance(error, LLMCommonError) and exit_code(error) == 2 for error in errors)  # noqa: PLR2004
    return 2 if to_set_right and not completed else 1


async def _cost(here: "CommandContext", result: "RunResult[BillAnalysis]") -> Decimal:
    """What the run cost so far, also where it failed."""
    if result.analysis is not None:
        return result.analysis.cost_usd
    return Decimal(0) if result.run_id is None else (await here.db.runs.get(result.run_id)).cost_usd


def _document(result: "RunResult[BillAnalysis]", cost: Decimal) -> dict[str, Any]:
    if result.analysis is not None:
        return result.analysis.model_dump(mode="json")
    return {"bill_id": result.bill_id, "run_id": result.run_id, "cost_usd": str(cost), **_error(result.error)}


def _error(error: Exception | None) -> dict[str, Any]:
    return {} if error is None else {"error": type(error).__name__, "message": _text(error)}


def _text(error: Exception) -> str:
    """Of foreign errors nobody knows what is in them."""
    return str(error) if isinstance(error, LLMCommonError) else type(error).__name__
