"""`llm-common analyze` on several bills: a line for each, a bar while they are at it, totals at the end."""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from llm_common.cli.bills import BillFiles
from llm_common.cli.console import notes, results
from llm_common.cli.context import NODE_PIPELINE
from llm_common.cli.errors import exit_code
from llm_common.exceptions import LLMCommonError
from llm_common.money import format_usd
from llm_common.pipeline.engines import EngineName

if TYPE_CHECKING:
    from llm_common.cli.context import Workplace
    from llm_common.pipeline import BillAnalysis, RunResult

__all__ = ["analyze_all", "enqueue_all"]


async def analyze_all(
    here: "Workplace",
    bills: BillFiles,
    jurisdiction: str,
    models: Mapping[str, str],
    *,
    concurrency: int,
    max_rounds: int,
    as_json: bool,
    engine: EngineName = "asyncio",
) -> int:
    """Analyse them; gives the exit code: 0 where all are completed, else 1 or, where all failed for it, 2."""
    with _Totals(len(bills)) as totals:
        stream = here.pipeline.stream_many(
            bills.items(jurisdiction),
            models,
            concurrency=concurrency,
            max_rounds=max_rounds,
            engine=engine,
            factory=NODE_PIPELINE if engine == "ray" else None,
        )
        async with aclosing(stream) as many:
            async for result in many:
                cost = await _cost(here, result)
                totals.add(result.bill_id, cost, result.error)
                if as_json:
                    _write(_document(result, cost))
        for name, error in bills.unreadable.items():
            totals.add(name, Decimal(0), error)
            if as_json:
                _write({"bill_id": name, "run_id": None, "cost_usd": "0", **_error(error)})
    if not as_json:
        results.print(totals.told(), highlight=False)
    return totals.exit_code()


async def enqueue_all(
    here: "Workplace",
    bills: BillFiles,
    jurisdiction: str,
    models: Mapping[str, str],
    *,
    max_rounds: int,
    as_json: bool,
) -> int:
    """Only put them into the queue; gives the exit code as `analyze_all`."""
    enqueued = await here.pipeline.enqueue(bills.items(jurisdiction), models, max_rounds=max_rounds)
    errors = [*(run.error for run in enqueued if run.error is not None), *bills.unreadable.values()]
    for error in errors:
        notes.print(f"[red]✗[/] {escape(str(error))}", highlight=False)
    if as_json:
        for run in enqueued:
            _write({"bill_id": run.bill_id, "run_id": run.run_id, "status": run.status, **_error(run.error)})
        for name, error in bills.unreadable.items():
            _write({"bill_id": name, "run_id": None, "status": None, **_error(error)})
    else:
        counts = {
            status: sum(run.status == status for run in enqueued) for status in ("queued", "running", "completed")
        }
        told = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
        results.print(f"{told or 'nothing enqueued'}; carry them out with: llm-common worker", highlight=False)
    return _exit_code(len(enqueued) - len(errors), errors)


class _Totals:
    """What came of it so far: shown as a bar on a terminal, as a line for each bill otherwise."""

    def __init__(self, total: int) -> None:
        self._total, self._completed, self._cost = total, 0, Decimal(0)
        self._errors: list[Exception] = []
        self._bar = Bar(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(),
            console=notes,
            disable=not notes.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, told="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()
        if error is not None:
            notes.print(f"{self.told()}; what was begun is back in the queue", highlight=False)
            notes.print("go on with the same command, or with: llm-common worker", highlight=False)

    def add(self, bill_id: str, cost: Decimal, error: Exception | None) -> None:
        self._cost += cost
        if error is None:
            self._completed += 1
            mark, told = "[green]✓[/]", format_usd(cost)
        else:
            self._errors.append(error)
            mark, told = "[red]✗[/]", escape(_text(error))
        self._bar.update(self._task, advance=1, told=f"{format_usd(self._cost)}, {len(self._errors)} failed")
        done = self._completed + len(self._errors)
        self._bar.console.print(f"{mark} {done}/{self._total} {escape(bill_id)} {told}", highlight=False)

    def told(self) -> str:
        failed = f", {len(self._errors):,} failed" if self._errors else ""
        return f"{self._completed:,} of {self._total:,} analysed{failed}, {format_usd(self._cost)}"

    def exit_code(self) -> int:
        return _exit_code(self._completed, self._errors)


def _exit_code(completed: int, errors: Sequence[Exception]) -> int:
    if not errors:
        return 0
    to_set_right = all(isinstance(error, LLMCommonError) and exit_code(error) == 2 for error in errors)  # noqa: PLR2004
    return 2 if to_set_right and not completed else 1


async def _cost(here: "Workplace", result: "RunResult[BillAnalysis]") -> Decimal:
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


def _write(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
    sys.stdout.flush()
