"""What runs on a Ray cluster: a process that opens a host's pipeline once and carries out many runs at a time."""

import asyncio
import pickle
from dataclasses import dataclass
from typing import Any

from llm_common.exceptions import ConfigurationError, PipelineError
from llm_common.pipeline.dispositions import told
from llm_common.pipeline.engines.base import QueuedPipeline
from llm_common.pipeline.factory import load_factory

__all__ = ["NotOpened", "PipelineActor"]


@dataclass(frozen=True, slots=True)
class NotOpened:
    """The actor could not open its pipeline, so the run was not touched."""

    error: Exception


class PipelineActor:
    """An async actor. What goes wrong is returned and not raised: Ray would wrap it in an error of its own.

    `factory` is an import path, as `load_factory` takes it; `code_version` the one that the runs are for.
    """

    def __init__(self, factory: str, code_version: str) -> None:
        self._factory, self._code_version = factory, code_version
        self._opened: asyncio.Future[QueuedPipeline[Any]] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._leaving, self._closing = False, asyncio.Event()
        self._running: set[asyncio.Task[Any]] = set()

    async def check(self) -> Exception | None:
        """Open the pipeline; what is wrong with it, or None."""
        try:
            await self._pipeline()
        except Exception as error:  # noqa: BLE001 (told to the driver)
            return portable(error)
        return None

    async def finish(self, run_id: str) -> Exception | NotOpened | None:
        """Carry an enqueued run to its end, wherever it stands; what stopped it, or None: then its result is stored."""
        if self._leaving:
            return _given_back(run_id)
        running = asyncio.ensure_future(self._finish(run_id))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        await asyncio.wait({running})
        return _given_back(run_id) if running.cancelled() else running.result()

    async def close(self) -> Exception | None:
        """Give back what is under way, and close the pipeline; what went wrong with that, or None."""
        self._leaving = True
        for run in self._running:
            run.cancel()
        if self._running:
            await asyncio.wait(self._running)
        self._closing.set()
        try:
            if self._keeping is not None:
                await self._keeping
        except Exception as error:  # noqa: BLE001 (told to the driver)
            return portable(error)
        return None

    async def _finish(self, run_id: str) -> Exception | NotOpened | None:
        try:
            pipeline = await self._pipeline()
        except Exception as error:  # noqa: BLE001 (told to the driver, which has other actors)
            return NotOpened(portable(error))
        try:
            await pipeline.finish(run_id)
        except Exception as error:  # noqa: BLE001 (told to the driver, to whom it is the run's result)
            return portable(error)
        return None

    async def _pipeline(self) -> QueuedPipeline[Any]:
        if self._opened is None or (self._opened.done() and self._opened.exception() is not None):
            self._opened = asyncio.get_running_loop().create_future()
            self._keeping = asyncio.ensure_future(self._keep_open(self._opened))
        return await asyncio.shield(self._opened)

    async def _keep_open(self, opened: "asyncio.Future[QueuedPipeline[Any]]") -> None:
        """In one task from opening to closing, as some context managers want it."""
        try:
            async with load_factory(self._factory)() as pipeline:
                self._check_version(pipeline)
                opened.set_result(pipeline)
                await self._closing.wait()
        except Exception as error:
            error.add_note(f"raised by the factory {self._factory} on a Ray worker")
            if opened.done():
                raise
            opened.set_exception(error)

    def _check_version(self, pipeline: QueuedPipeline[Any]) -> None:
        if pipeline.code_version != self._code_version:
            raise ConfigurationError(
                f"{self._factory} gives a pipeline of code {pipeline.code_version}, but the runs are of "
                f"{self._code_version}; use the same spec, and the same version of llm-common, on the cluster"
            )


def _given_back(run_id: str) -> PipelineError:
    return PipelineError(f"run {run_id} was given back to the queue, because its driver left", run_id=run_id)


def portable(error: Exception) -> Exception:
    """The same error where it survives pickling, else a `PipelineError` that names it."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (what we have just pickled ourselves)
    except Exception:  # noqa: BLE001 (a foreign class may raise anything here)
        return PipelineError(f"{told(error)} (an error of a class that cannot be pickled)")
    return error
