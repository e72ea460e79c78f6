"""What an engine is, and what it needs of a pipeline."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from llm_common.db.database import Database
from llm_common.pipeline.batch import Execute
from llm_common.pipeline.events import OnEvent
from llm_common.pipeline.schemas import AnalysisResult
from llm_common.pipeline.spec import AnalysisSpec

__all__ = ["Engine", "QueuedPipeline"]

A = TypeVar("A", bound=AnalysisResult)
A_co = TypeVar("A_co", bound=AnalysisResult, covariant=True)


class QueuedPipeline(Protocol[A_co]):
    """What an engine needs of an `AnalysisPipeline`."""

    @property
    def db(self) -> Database: ...

    @property
    def spec(self) -> AnalysisSpec[A_co]: ...

    @property
    def code_version(self) -> str: ...

    async def finish(self, run_id: str, *, on_event: OnEvent | None = None) -> A_co:
        """The result of an enqueued run, executed here unless somebody else does."""
        ...


class Engine(Protocol):
    """Executes the runs of one call of `run_many`, which are in the queue already."""

    def opened(
        self, pipeline: QueuedPipeline[A], *, concurrency: int, on_event: OnEvent | None
    ) -> AbstractAsyncContextManager[Execute[A]]:
        """What executes a run, for up to `concurrency` at a time. Closing it gives back those still under way."""
        ...
