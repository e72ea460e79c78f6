"""A host's pipeline by its import path: how a worker on another machine, or in another process, gets it."""

import importlib
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias, cast

from llm_common.exceptions import ConfigurationError
from llm_common.pipeline.engines.base import QueuedPipeline

__all__ = ["Factory", "load_factory"]

#: Opens a pipeline with everything that it needs, and closes it again: a function with `@asynccontextmanager`, say.
Factory: TypeAlias = Callable[[], AbstractAsyncContextManager[QueuedPipeline[Any]]]


def load_factory(path: str) -> Factory:
    """`"module:factory"`, found in the current folder too. Raises `ConfigurationError` where there is none."""
    module, colon, name = path.partition(":")
    if not module or not colon or not name:
        raise ConfigurationError(f"{path!r} is no import path; write module:factory, such as app.analysis:pipeline")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{path!r}: there is no module {error.name!r}; start where it can be imported"
        ) from error
    except AttributeError as error:
        raise ConfigurationError(f"{path!r}: module {module!r} has no {name!r}") from error
    if not callable(found):
        raise ConfigurationError(f"{path!r} is no function; it must give an async context manager with a pipeline")
    return cast("Factory", found)
