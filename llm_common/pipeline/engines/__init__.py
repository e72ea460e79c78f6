"""Where the runs of `run_many` are executed: on this event loop, on a Ray cluster, or by an engine of your own."""

from typing import Literal, TypeAlias, get_args

from llm_common.exceptions import InvalidInputError
from llm_common.pipeline.engines.base import Engine
from llm_common.pipeline.engines.local import AsyncioEngine

__all__ = ["Engine", "EngineName", "engine_of"]

EngineName: TypeAlias = Literal["asyncio", "ray"]


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
