"""`RayEngine`: the runs of `run_many` on an existing Ray cluster.

results = await pipeline.run_many(items, models, engine="ray", factory="app.analysis:pipeline", concurrency=200)

Runs spend their time waiting for models. So they are not one Ray task (one process) each: a few async actors, spread
over the nodes, open the factory once and carry many runs at a time, with the connections, limits and breakers of one
process. Measured, for 64 runs at once: two actors took 0.24 GB and 5 seconds of CPU, 64 tasks 4.8 GB and 160 seconds.

To Ray goes a run's id and the factory's import path, no text, no key, no prompt; the pipeline reads the input from
Postgres, and the result is read from there too, as the type of the host's own spec.

Ray restarts a dead actor without end, also on another node, and calls again for what it had in hand. That is exact
because `AnalysisPipeline.finish` is: a completed run is only read, one with a living owner is waited for, a dead
owner's lease is waited out, and finished steps are not paid again. What bounds a run that kills its workers is the
pipeline's `max_attempts`: give it more on nodes that may be taken away. An error of the run itself is no reason to
retry: it comes back as it was raised.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from llm_common._runtime.shielding import run_shielded
from llm_common.exceptions import ConfigurationError, InvalidInputError, PipelineError
from llm_common.pipeline.batch import Execute
from llm_common.pipeline.engines.base import QueuedPipeline
from llm_common.pipeline.engines.ray_actor import NotOpened, PipelineActor
from llm_common.pipeline.engines.ray_connection import connected
from llm_common.pipeline.events import OnEvent
from llm_common.pipeline.result import result_from_run
from llm_common.pipeline.schemas import AnalysisResult

__all__ = ["RayEngine"]

_log = logging.getLogger(__name__)
A = TypeVar("A", bound=AnalysisResult)

#: Seconds for an actor to give its runs back and close its pipeline; after that it is killed, and its leases end.
_GRACE: Final = 25.0


@dataclass(frozen=True, slots=True)
class RayEngine:
    """Async actors on the cluster that the host has connected to, or else `ray.init(address="auto")` finds.

    `factory` is the import path of a context manager with the pipeline (`pipeline.factory`), importable on the nodes,
    where its keys and its database are configured. There is one actor for each `runs_per_actor` of the concurrency;
    each takes `num_cpus` of its node. A cluster without room for all of them has them carry more.

    No cluster is ever started. The connection stays open for the next call; it ends with the process.
    """

    factory: str
    runs_per_actor: int = 32
    num_cpus: float = 0.25

    def __post_init__(self) -> None:
        if self.runs_per_actor < 1 or self.num_cpus < 0:
            raise InvalidInputError("runs_per_actor must be at least 1, and num_cpus not negative")

    @asynccontextmanager
    async def opened(
        self, pipeline: QueuedPipeline[A], *, concurrency: int, on_event: OnEvent | None
    ) -> AsyncGenerator[Execute[A]]:
        """Raises `ConfigurationError` without Ray, without a cluster, or where no actor can open the factory."""
        if on_event is not None:
            raise InvalidInputError("on_event hears nothing of runs on other machines; leave it out with this engine")
        ray = await asyncio.to_thread(connected)
        actor_type = _actor_type(ray, num_cpus=self.num_cpus, max_concurrency=concurrency + 2)
        count = -(-concurrency // self.runs_per_actor)
        crew = _Crew(ray, [actor_type.remote(self.factory, pipeline.code_version) for _ in range(count)], self.factory)

        async def execute(run_id: str) -> A:
            await crew.finish(run_id)
            return result_from_run(await pipeline.db.runs.get(run_id), pipeline.spec)

        try:
            await crew.is_ready()
            yield execute
        finally:
            await run_shielded(crew.close())


class _Crew:
    """The actors of one call of `run_many`. A run goes to the one with the fewest in hand, of those that are up."""

    def __init__(self, ray: Any, actors: Sequence[Any], factory: str) -> None:
        self._ray, self._factory = ray, factory
        self._in_hand: dict[Any, int] = {}
        self._actors = actors
        self._arriving = {asyncio.ensure_future(self._arrive(actor)) for actor in actors}

    async def is_ready(self) -> None:
        """Wait for the first actor. Raises what is wrong where all have failed."""
        if await self._idlest() is None:
            raise next(failure for arrived in self._arriving if (failure := arrived.result()) is not None)

    async def finish(self, run_id: str) -> None:
        """Raises what stopped the run."""
        while (actor := await self._idlest()) is not None:
            outcome = await self._outcome(actor, run_id)
            if outcome is None:
                return
            if not isinstance(outcome, NotOpened):
                raise outcome
            # It would be the idlest from now on, and all the other runs would go to it and fail.
            self._in_hand.pop(actor, None)
            _log.warning("run %s goes to another actor, because one is out of service: %s", run_id, outcome.error)
        raise PipelineError(
            f"run {run_id} is left: no actor of this call is alive any more; call again, it goes on where it stands",
            run_id=run_id,
        )

    async def _idlest(self) -> Any:
        """Of the actors that are up, the one with the fewest runs in hand; None where there will be none."""
        while not self._in_hand:
            arriving = [actor for actor in self._arriving if not actor.done()]
            if not arriving:
                return None
            await asyncio.wait(arriving, return_when=asyncio.FIRST_COMPLETED)
        return min(self._in_hand, key=self._in_hand.__getitem__)

    async def _outcome(self, actor: Any, run_id: str) -> Exception | NotOpened | None:
        self._in_hand[actor] += 1
        try:
            return await actor.finish.remote(run_id)
        except self._ray.exceptions.RayActorError as error:
            return NotOpened(error)
        except self._ray.exceptions.RayError as error:
            raise PipelineError(f"Ray lost run {run_id}: {type(error).__name__}", run_id=run_id) from error
        finally:
            if actor in self._in_hand:
                self._in_hand[actor] -= 1

    async def close(self) -> None:
        """Have the runs under way given back, and free the actors."""
        for arriving in self._arriving:
            arriving.cancel()
        closing = [asyncio.ensure_future(self._closed(actor)) for actor in self._in_hand]
        if closing:
            _, late = await asyncio.wait(closing, timeout=_GRACE)
            for one in late:
                one.cancel()
        for actor in self._actors:
            self._ray.kill(actor)

    async def _arrive(self, actor: Any) -> Exception | None:
        try:
            failure: Exception | None = await actor.check.remote()
        except self._ray.exceptions.RayError as error:
            # Ray's text is a whole traceback; its last line says what is missing.
            cause = str(error).strip().rpartition("\n")[2]
            failure = ConfigurationError(
                f"a Ray worker could not open {self._factory}: {cause}; install llm-common and the factory's module "
                "on every node, or ship them with ray.init(runtime_env=...)"
            )
        if failure is None:
            self._in_hand[actor] = 0
        else:
            _log.warning("an actor could not open %s: %s", self._factory, failure)
        return failure

    async def _closed(self, actor: Any) -> None:
        try:
            failure = await actor.close.remote()
        except self._ray.exceptions.RayError as error:
            failure = error
        if failure is not None:
            _log.warning("an actor did not close well, what it had in hand goes back with its lease: %s", failure)


def _actor_type(ray: Any, *, num_cpus: float, max_concurrency: int) -> Any:
    return ray.remote(
        num_cpus=num_cpus,
        max_concurrency=max_concurrency,
        max_restarts=-1,
        max_task_retries=-1,
        scheduling_strategy="SPREAD",
    )(PipelineActor)
