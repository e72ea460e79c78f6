"""A run's events as they happen: one line for each step done, a spinner for the one under way."""

import textwrap
from types import TracebackType
from typing import Final, Self

from rich.status import Status

from llm_common.cli.console import escape, mark, notes
from llm_common.money import format_usd
from llm_common.pipeline import PipelineEvent

__all__ = ["Progress"]

_FINDINGS: Final = 5


class Progress:
    """Give `on_event` to a pipeline. Where standard error is no terminal there are only the lines."""

    def __init__(self) -> None:
        self._status: Status | None = None
        self._run_id: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()
        if error is not None and self._run_id is not None:
            _say(f"run {self._run_id} has stopped and is kept; go on with: llm-common runs resume {self._run_id}")

    def on_event(self, event: PipelineEvent) -> None:
        match event.kind:
            case "run_started":
                self._run_id = event.run_id
                _say(f"[dim]run {event.run_id}[/]")
            case "step_started":
                self._spin(f"{event.step} [dim]{escape(event.model or '')}[/]")
            case "step_finished":
                self._stop()
                _say(_finished(event))
            case "queries":
                self._spin(f"searching {len(event.queries)} queries")
            case "sources":
                self._stop()
                failed = f", {len(event.failures)} searches without a result" if event.failures else ""
                _say(f"    {len(event.sources)} sources{failed}")
            case "draft_checked":
                dropped = (
                    f", {len(event.unsupported)} claims left out for lack of evidence" if event.unsupported else ""
                )
                _say(f"    {event.impacts} impacts with evidence{dropped}")
            case "reviewed":
                _say(_reviewed(event))
            case "run_finished":
                self._stop()

    def _spin(self, text: str) -> None:
        self._stop()
        if notes.is_terminal:
            self._status = notes.status(text)
            self._status.start()

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def _say(text: str) -> None:
    notes.print(text)


def _finished(event: PipelineEvent) -> str:
    if event.from_checkpoint:
        return f"{mark('done')} {event.step or '':<10} kept from before"
    tokens = f"{event.usage.total_tokens:,} tokens" if event.usage else ""
    cost = format_usd(event.cost_usd) if event.cost_usd is not None else ""
    step, model = event.step or "", escape(event.model or "")
    return f"{mark('done')} {step:<10} {model:<24} {event.seconds or 0:5.1f} s  {tokens:>14}  {cost}"


def _reviewed(event: PipelineEvent) -> str:
    review = event.review
    if review is None or review.passed:
        return "    [green]review passed[/]"
    found = [*review.factual_errors, *review.missing_impacts]
    shown = [f"    [yellow]review failed:[/] {len(found)} findings"]
    shown += [f"      - {escape(textwrap.shorten(item, 100, placeholder='…'))}" for item in found[:_FINDINGS]]
    return "\n".join(shown if found else [f"    [yellow]review failed:[/] {escape(review.critique)}"])
