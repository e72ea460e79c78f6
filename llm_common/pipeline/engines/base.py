"""Where the runs of `run_many` are carried out: on this event loop, on a Ray cluster, or by an engine of your own."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, TypeVar, get_args

from llm_common.exceptions import InvalidInputError
from llm_common.pipeline.batch import Execute
from llm_common.pipeline.events import OnEvent
from llm_common.pipeline.schemas import AnalysisResult

if TYPE_CHECKING:
    from llm_common.pipeline.analysis import AnalysisPipeline

__all__ = ["AsyncioEngine", "Engine", "EngineName", "engine_of"]

A = TypeVar("A", bound=AnalysisResult)

EngineName: TypeAlias = Literal["asyncio", "ray"]


class Engine(Protocol):
    """Carries out the runs of one call of `run_many`, which are in the queue already."""

    def opened(
        self, pipeline: "AnalysisPipeline[A]", *, concurrency: int, on_event: OnEvent | None
    ) -> AbstractAsyncContextManager[Execute[A]]:
        """What carries out a run, for up to `concurrency` at a time. Closing it gives back those still under way."""
        ...


class AsyncioEngine:
    """On the event loop of the caller, with its pipeline."""

    @asynccontextmanager
    async def opened(
        self,
        pipeline: "AnalysisPipeline[A]",
        *,
        concurrency: int,  # noqa: ARG002 (one loop carries as many as it is given)
        on_event: OnEvent | None,
    ) -> AsyncGenerator[Execute[A]]:
        yield partial(pipeline.finish, on_event=on_event)


def engine_of(engine: EngineName | Engine, factory: str | None) -> Engine:
    """The engine of that name; `factory` is Ray's. Raises `InvalidInputError` where the two do not go together."""
    if engine == "ray":
        if factory is None:
            raise InvalidInputError(
                'engine="ray" needs factory="module:function", the import path with which the cluster\'s workers '
                'open this pipeline, such as factory="app.analysis:pipeline"'
            )
        from llm_common.pipeline.engines.ray import RayEngine

        return RayEngine(factory)
    if factory is not None:
        raise InvalidInputError(f'factory={factory!r} is for engine="ray"; leave it out, or say engine="ray"')
    if engine == "asyncio":
        return AsyncioEngine()
    if isinstance(engine, str):
        raise InvalidInputError(f"engine {engine!r} is unknown; there are {', '.join(get_args(EngineName))}")
    return engine
