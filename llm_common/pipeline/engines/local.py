"""The engine that needs nothing: runs are executed on the caller's event loop."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

from llm_common.pipeline.batch import Execute
from llm_common.pipeline.engines.base import QueuedPipeline
from llm_common.pipeline.events import OnEvent
from llm_common.pipeline.schemas import AnalysisResult

__all__ = ["AsyncioEngine"]

A = TypeVar("A", bound=AnalysisResult)


class AsyncioEngine:
    """On the event loop of the caller, with its pipeline."""

    @asynccontextmanager
    async def opened(
        self,
        pipeline: QueuedPipeline[A],
        *,
        concurrency: int,  # noqa: ARG002 (one loop carries as many as it is given)
        on_event: OnEvent | None,
    ) -> AsyncGenerator[Execute[A]]:
        yield partial(pipeline.finish, on_event=on_event)
