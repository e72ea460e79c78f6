"""The events of a run, and how they reach the host."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeAlias

from llm_common.pipeline.schemas import AnalysisResult, ResearchFailure, ReviewCritique, Source, UnsupportedClaim
from llm_common.usage import Usage

__all__ = ["EventKind", "OnEvent", "PipelineEvent", "emit"]

EventKind = Literal[
    "run_started", "step_started", "step_finished", "queries", "sources", "draft_checked", "reviewed", "run_finished"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineEvent:
    """One thing that happened; the fields that do not belong to its kind are empty.

    `run_started`, `run_finished` (with `analysis`). `step_started` and `step_finished` have `step` (`review:2`) and
    `model`; a finished one has `usage`, `cost_usd`, `attempts` and `seconds`, or `from_checkpoint` where an earlier
    worker had paid for it. `queries` before they are searched, `sources` with the `failures` after. `draft_checked` has
    the claims that were left out as `unsupported`, and `impacts`, the number of those that stayed. `reviewed` has the
    `review`.
    """

    kind: EventKind
    run_id: str
    step: str | None = None
    model: str | None = None
    seconds: float | None = None
    usage: Usage | None = None
    cost_usd: Decimal | None = None
    attempts: int | None = None
    from_checkpoint: bool = False
    queries: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    failures: tuple[ResearchFailure, ...] = ()
    impacts: int | None = None
    unsupported: tuple[UnsupportedClaim, ...] = ()
    review: ReviewCritique | None = None
    analysis: AnalysisResult | None = None


#: A function or a coroutine function. What it raises stops the run, which can be resumed.
OnEvent: TypeAlias = Callable[[PipelineEvent], Awaitable[None] | None]


async def emit(on_event: OnEvent | None, event: PipelineEvent) -> None:
    if on_event is not None:
        result = on_event(event)
        if inspect.isawaitable(result):
            await result
