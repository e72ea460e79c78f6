"""`Worker`: carries out the runs of the queue, on as many machines as there are workers.

async with Database.connect() as db, LLMClient() as llm, WebSearchClient(None, db) as search:
    await Worker(AnalysisPipeline(llm, search, tracker, db), concurrency=20).work()
"""

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from llm_common._runtime.shielding import run_shielded
from llm_common.db.functions.queue import ClaimedBatch
from llm_common.db.functions.runs import ClaimedRun
from llm_common.exceptions import DatabaseUnavailableError, InvalidInputError, LLMCommonError, RunFencedError
from llm_common.pipeline.analysis import AnalysisPipeline
from llm_common.pipeline.dispositions import Ending, Stop, StopRequested, back_to_the_queue, told
from llm_common.pipeline.events import OnEvent, PipelineEvent, emit
from llm_common.pipeline.leases import worker_name
from llm_common.pipeline.polling import Pace
from llm_common.pipeline.schemas import AnalysisResult

__all__ = ["OnWorked", "Worked", "Worker"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """What became of a run in this worker's hands: its `analysis`, or the `error` and where the run is now.

    `ending` None: it is completed, or another worker's (then the error is a `RunFencedError`).
    """

    run_id: str
    bill_id: str
    analysis: AnalysisResult | None = None
    error: Exception | None = None
    ending: Ending | None = None


#: Hears of each run that leaves the worker. Plain or async; what it raises is logged.
OnWorked: TypeAlias = Callable[[Worked], Awaitable[object] | object]


class Worker:
    """Claims due runs of its pipeline's code version and carries out up to `concurrency` of them at the same time.

    A run whose provider or budget refuses goes back to the queue (see `endings.back_to_the_queue`), and the worker
    takes one at a time until it is served again. `grace_seconds`: how long `stop` waits for steps under way; a call
    that is cut off then is charged at its bound. `name` is what `llm-common runs queue` shows.
    """

    def __init__(
        self,
        pipeline: AnalysisPipeline[Any],
        *,
        concurrency: int = 8,
        grace_seconds: float = 25.0,
        on_event: OnEvent | None = None,
        on_worked: OnWorked | None = None,
    ) -> None:
        if concurrency < 1 or grace_seconds < 0:
            raise InvalidInputError("concurrency must be at least 1, and grace_seconds not negative")
        self.name = worker_name()
        self._pipeline, self._concurrency, self._grace_seconds = pipeline, concurrency, grace_seconds
        self._on_event, self._on_worked = on_event, on_worked
        self._pace, self._sweep_at = Pace(), 0.0
        self._running: set[asyncio.Task[None]] = set()
        self._stopping, self._hurrying = asyncio.Event(), asyncio.Event()

    async def work(self) -> None:
        """Until `stop` is called or the task is cancelled. Either way no run stays with this worker."""
        await self._serve(lambda _batch: False)

    async def drain(self) -> None:
        """Until no run is due; those that are delayed, or in other workers' hands, are left."""
        await self._serve(lambda batch: not batch.runs and batch.wait_seconds != 0 and not self._running)

    def stop(self) -> None:
        """Claim no more, let each run finish the step that it is at, and give it back. Again: without waiting for that.

        For a signal handler of the event loop (`loop.add_signal_handler`).
        """
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()

    async def _serve(self, is_done: Callable[[ClaimedBatch], bool]) -> None:
        try:
            while not self._stopping.is_set():
                free = self._pace.slots(self._concurrency) - len(self._running)
                if free > 0 and time.monotonic() >= self._pace.next_at:
                    batch = await run_shielded(self._take(free))
                    if is_done(batch):
                        return
                await self._something_happens()
        finally:
            await run_shielded(self._give_back())

    async def _take(self, free: int) -> ClaimedBatch:
        """Claim and begin, in one go: a cancellation in between would leave runs that nobody works on."""
        db, lease_seconds = self._pipeline.db, self._pipeline.lease_seconds
        try:
            if time.monotonic() >= self._sweep_at:
                await db.runs.sweep()
                self._sweep_at = time.monotonic() + lease_seconds / 4
            batch = await db.queue.claim(
                self.name, code_version=self._pipeline.code_version, max_runs=free, lease_seconds=lease_seconds
            )
        except DatabaseUnavailableError as error:
            _log.warning("worker %s cannot claim, trying again: %s", self.name, error)
            self._pace = self._pace.claimed(0, None, time.monotonic())
            return ClaimedBatch((), 0)
        for claimed in batch.runs:
            task = asyncio.ensure_future(self._carry_out(claimed))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        self._pace = self._pace.claimed(len(batch.runs), batch.wait_seconds, time.monotonic())
        return batch

    async def _something_happens(self) -> None:
        """A run ends, `stop` is called, or it is time to claim again and there is room."""
        full = len(self._running) >= self._pace.slots(self._concurrency)
        wait = None if full else max(self._pace.next_at - time.monotonic(), 0.0)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({stopping, *self._running}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()

    async def _carry_out(self, claimed: ClaimedRun) -> None:
        ending: Ending | None = None

        def ends(error: BaseException, attempt: int) -> Ending:
            nonlocal ending
            ending = back_to_the_queue(error, attempt)
            return ending

        analysis, failure = None, None
        try:
            analysis = await self._pipeline.execute(claimed, self.name, on_event=self._heard, ends=ends)
        except asyncio.CancelledError as error:
            failure = StopRequested(told(error))  # only `_give_back` cancels
        except Exception as error:  # noqa: BLE001 (told below: one bad run stops no worker)
            failure = error
        self._learn(failure, ending)
        worked = Worked(
            run_id=claimed.run.id, bill_id=claimed.run.bill_id, analysis=analysis, error=failure, ending=ending
        )
        self._log(worked)
        await self._tell(worked)

    async def _heard(self, event: PipelineEvent) -> None:
        if event.kind == "step_started" and self._stopping.is_set():
            raise StopRequested
        if event.kind == "step_finished" and not event.from_checkpoint:
            self._pace = self._pace.success()
        await emit(self._on_event, event)

    def _learn(self, failure: Exception | None, ending: Ending | None) -> None:
        if failure is not None and ending is not None and not isinstance(ending, Stop) and ending.wait_seconds > 0:
            self._pace = self._pace.refusal(time.monotonic())

    def _log(self, worked: Worked) -> None:
        if isinstance(worked.error, (StopRequested, RunFencedError)) or worked.error is None:
            _log.info("run %s left worker %s: %s", worked.run_id, self.name, worked.error or "completed")
        elif isinstance(worked.error, LLMCommonError):
            _log.warning("run %s (%s): %s; %s", worked.run_id, worked.ending, told(worked.error), _notes(worked.error))
        else:
            _log.error("run %s failed in an unforeseen way", worked.run_id, exc_info=worked.error)

    async def _tell(self, worked: Worked) -> None:
        if self._on_worked is None:
            return
        try:
            heard = self._on_worked(worked)
            if inspect.isawaitable(heard):
                await heard
        except Exception:  # noqa: BLE001 (a host's callback may raise anything)
            _log.exception("on_worked failed for run %s; the worker goes on", worked.run_id)

    async def _give_back(self) -> None:
        """Nothing is claimed any more: let steps end, then cut off what is left. Each run goes back by itself."""
        self._stopping.set()
        hurrying = asyncio.ensure_future(self._hurrying.wait())
        ended = asyncio.gather(*self._running, return_exceptions=True)
        try:
            await asyncio.wait({ended, hurrying}, timeout=self._grace_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurrying.cancel()
        # Each has begun, because it was scheduled before this: cancelled earlier, it would not give its run back.
        for task in self._running:
            task.cancel()
        await asyncio.wait({ended})


def _notes(error: Exception) -> str:
    return "; ".join(getattr(error, "__notes__", ()))
