"""`AnalysisPipeline`: a text in, a grounded and reviewed analysis out, however often its process dies.

pipeline = AnalysisPipeline(llm, search, tracker, db)
analysis = await pipeline.run("AB-1234", text, "California", models={"research": ..., "generate": ..., "review": ...})
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Generic, overload

from typing_extensions import TypeVar

from llm_common.cost_tracker import CostTracker
from llm_common.db.database import Database, DatabaseSource
from llm_common.db.functions.runs import ClaimedRun, RunRecord
from llm_common.db.transport import Json
from llm_common.exceptions import (
    InvalidInputError,
    LLMError,
    RunFencedError,
    RunInProgressError,
)
from llm_common.llm_client import LLMClient
from llm_common.pipeline.batch import Enqueued, Item, RunResult, content_key, enqueue_items, stream_results
from llm_common.pipeline.dispositions import Ends, back_to_the_queue, for_good
from llm_common.pipeline.engines import Engine, EngineName, engine_of
from llm_common.pipeline.events import OnEvent, PipelineEvent
from llm_common.pipeline.executor import RunExecutor
from llm_common.pipeline.leases import worker_name
from llm_common.pipeline.legislation import LEGISLATION, BillAnalysis
from llm_common.pipeline.prompts import code_version, spec_of
from llm_common.pipeline.run_plan import RunPlan, check_origin
from llm_common.pipeline.schemas import AnalysisResult
from llm_common.pipeline.spec import AnalysisSpec
from llm_common.pipeline.subject import Subject, check_spec
from llm_common.web_search import WebSearchClient

__all__ = ["AnalysisPipeline"]

A = TypeVar("A", bound=AnalysisResult, default=BillAnalysis)

#: Seconds between two looks at a run that somebody else is working on: at first, and at most.
_LOOK_SOON, _LOOK_SELDOM = 0.1, 2.0


class AnalysisPipeline(Generic[A]):
    """Research → generate → review → refine, each finished step stored and never paid again.

    `spec` is what is analysed, and so what comes out: bills by default, as `BillAnalysis`.

    `db` is whatever `Database.of` takes. `cost_tracker` pays for every call of a run and must record in the same
    database; None is a tracker on `db` with the budgets of the environment. `lease_seconds`: after so long without a
    sign of life another worker may take a run over. `max_attempts`: so many workers may die over a run before it fails.
    `offline`: a script plays the models; its runs are kept apart from real ones, and their results say so.
    """

    @overload
    def __init__(
        self: "AnalysisPipeline[BillAnalysis]",
        llm_client: LLMClient,
        search_client: WebSearchClient,
        cost_tracker: CostTracker | None,
        db: DatabaseSource,
        *,
        lease_seconds: float = 60.0,
        max_attempts: int = 5,
        offline: bool = False,
    ) -> None: ...

    @overload
    def __init__(
        self,
        llm_client: LLMClient,
        search_client: WebSearchClient,
        cost_tracker: CostTracker | None,
        db: DatabaseSource,
        *,
        spec: AnalysisSpec[A],
        lease_seconds: float = 60.0,
        max_attempts: int = 5,
        offline: bool = False,
    ) -> None: ...

    def __init__(
        self,
        llm_client: LLMClient,
        search_client: WebSearchClient,
        cost_tracker: CostTracker | None,
        db: DatabaseSource,
        *,
        spec: AnalysisSpec[Any] = LEGISLATION,
        lease_seconds: float = 60.0,
        max_attempts: int = 5,
        offline: bool = False,
    ) -> None:
        if lease_seconds <= 0 or max_attempts < 1:
            raise InvalidInputError("lease_seconds must be more than 0, and max_attempts at least 1")
        self._db = Database.of(db)
        self.spec: AnalysisSpec[A] = spec
        self._offline = offline
        self._code_version = code_version(spec, offline=offline)
        self._lease_seconds, self._max_attempts = lease_seconds, max_attempts
        tracker = cost_tracker if cost_tracker is not None else CostTracker(self._db)
        self._executor = RunExecutor(
            llm_client, search_client, tracker, self._db, self.spec, lease_seconds, offline=offline
        )

    @property
    def db(self) -> Database:
        """Where the runs are."""
        return self._db

    @property
    def lease_seconds(self) -> float:
        """After so long without a sign of life another worker may take a run over."""
        return self._lease_seconds

    @property
    def code_version(self) -> str:
        """Names the runs of the queue that this pipeline can execute, and the checkpoints that it can use."""
        return self._code_version

    async def run(
        self,
        bill_id: str,
        bill_text: str,
        jurisdiction: str,
        models: Mapping[str, str],
        *,
        idempotency_key: str | None = None,
        max_rounds: int = 2,
        on_event: OnEvent | None = None,
    ) -> A:
        """Analyses a bill, or whatever the spec is about: an id, the text, and the context it belongs to.

        `models` names one for "research", "generate", "review" and, if it is another, "refine".

        `max_rounds` bounds how often the draft is refined. The same `idempotency_key` is the same run: its result is
        returned if it has one, and it is resumed if it has no living worker.

        Raises `InvalidInputError`, and what `LLMClient.check` raises for a model, before anything is written;
        `RunInProgressError` for a key that is being worked on;
        `RunCancelledError` and `RunFencedError`; and what a step raised (`BudgetExceededError`, ...), with a note that
        names the run. A cancelled task leaves its run cancelled. `resume` goes on with a failed or cancelled run.
        """
        subject = Subject.checked(bill_id, bill_text, jurisdiction, models, max_rounds=max_rounds, spec=self.spec)
        if idempotency_key is not None and not idempotency_key.strip():
            raise InvalidInputError("idempotency_key is empty; leave it out, or give one that names this analysis")
        plan = await self._executor.plan(subject)
        worker = worker_name()
        run = self._run_json(subject, plan, idempotency_key)
        start = self._db.runs.start(run, worker=worker, lease_seconds=self._lease_seconds)
        return await self._executor.execute(start, worker, on_event, for_good, plan)

    async def resume(self, run_id: str, *, on_event: OnEvent | None = None) -> A:
        """Goes on with a run that failed, was cancelled, or lost its worker; a completed one's result is returned.

        Steps that this version of the code has finished are not paid again. Raises like `run`, and `PipelineError` for
        an unknown run, for one of another spec, and for one that a script answered where models do now, or vice versa.
        """
        known = await self._db.runs.get(run_id)
        check_spec(run_id, spec_of(known.code_version), self.spec)
        check_origin(run_id, known.answered_by, offline=self._offline)
        worker = worker_name()
        resume = self._db.runs.resume(
            run_id, worker=worker, code_version=self.code_version, lease_seconds=self._lease_seconds
        )
        return await self._executor.execute(resume, worker, on_event, for_good)

    async def enqueue(self, items: Iterable[Item], models: Mapping[str, str], *, max_rounds: int = 2) -> list[Enqueued]:
        """Puts items into the queue, for workers (`llm-common worker`) on whatever machine; one answer for each item.

        An item that was enqueued before is the same run: one that failed or was cancelled waits again. One that cannot
        be a run (see `run`) comes with its error, the others are enqueued. Items are read as they are needed.
        """
        async with aclosing(self._enqueue(items, models, max_rounds)) as runs:
            return [run async for run in runs]

    async def stream_many(
        self,
        items: Iterable[Item],
        models: Mapping[str, str],
        *,
        concurrency: int = 8,
        max_rounds: int = 2,
        on_event: OnEvent | None = None,
        engine: EngineName | Engine = "asyncio",
        factory: str | None = None,
    ) -> AsyncGenerator[RunResult[A]]:
        """Analyses many: results as they come, `position` says whose. Nothing of 100,000 items is kept in memory.

        Each item is enqueued first, so that the same call, or a worker, goes on where this one stopped: what is
        completed is only read. At most `concurrency` runs execute at the same time. What one item raises is in
        its result and stops no other. Leaving the iteration gives the runs in hand back to the queue.

        `engine="ray"` carries them out on a Ray cluster, whose workers open this pipeline with `factory`, an import
        path such as "app.analysis:pipeline" (see `pipeline.ray_engine`; `on_event` hears nothing then). Raises
        `ConfigurationError` without Ray, without a cluster, or where the workers cannot open it.
        """
        if concurrency < 1:
            raise InvalidInputError(f"concurrency must be at least 1, got {concurrency}")
        opened = engine_of(engine, factory).opened(self, concurrency=concurrency, on_event=on_event)
        async with opened as execute:
            runs = self._enqueue(items, models, max_rounds)
            async with aclosing(stream_results(runs, execute, concurrency=concurrency)) as results:
                async for result in results:
                    yield result

    async def run_many(
        self,
        items: Iterable[Item],
        models: Mapping[str, str],
        *,
        concurrency: int = 8,
        max_rounds: int = 2,
        on_event: OnEvent | None = None,
        engine: EngineName | Engine = "asyncio",
        factory: str | None = None,
    ) -> list[RunResult[A]]:
        """Like `stream_many`, as a list in the order of the items."""
        stream = self.stream_many(
            items,
            models,
            concurrency=concurrency,
            max_rounds=max_rounds,
            on_event=on_event,
            engine=engine,
            factory=factory,
        )
        async with aclosing(stream) as results:
            return sorted([result async for result in results], key=lambda result: result.position)

    async def finish(self, run_id: str, *, on_event: OnEvent | None = None) -> A:
        """Executes an enqueued run here, or waits for whoever does; returns its result.

        An owner who dies is waited out and replaced. What may pass within its attempts is tried again. Raises what
        stopped the run otherwise; it is then back in the queue, or failed, as its note says. Cancelling gives it back.
        """
        look = _LOOK_SOON
        while True:
            worker = worker_name()
            take = self._db.queue.take(
                run_id, worker=worker, code_version=self.code_version, lease_seconds=self._lease_seconds
            )
            try:
                return await self._executor.execute(take, worker, on_event, back_to_the_queue)
            except (RunInProgressError, RunFencedError):
                await asyncio.sleep(look)
                look = min(look * 1.5, _LOOK_SELDOM)
            except LLMError as error:
                run = await self._db.runs.get(run_id)
                if not error.retryable or run.status != "queued":
                    raise
                await asyncio.sleep((run.run_at - datetime.now(UTC)).total_seconds())

    async def execute(
        self, claimed: ClaimedRun, worker: str, *, on_event: OnEvent | None = None, ends: Ends = back_to_the_queue
    ) -> A:
        """Does what is left of a run that `worker` has claimed from the queue. Raises what stopped it."""

        async def already() -> ClaimedRun:
            return claimed

        return await self._executor.execute(already(), worker, on_event, ends)

    async def cancel(self, run_id: str) -> RunRecord:
        """Asks a run to stop, which its worker does at its next heartbeat; without a worker it ends at once."""
        return await self._db.runs.request_cancel(run_id)

    async def stream(
        self,
        bill_id: str,
        bill_text: str,
        jurisdiction: str,
        models: Mapping[str, str],
        *,
        idempotency_key: str | None = None,
        max_rounds: int = 2,
    ) -> AsyncGenerator[PipelineEvent]:
        """Like `run`, as its events; the last one has the analysis. Leaving the iteration cancels the run."""
        events: asyncio.Queue[PipelineEvent | None] = asyncio.Queue()
        running = asyncio.ensure_future(
            self.run(
                bill_id,
                bill_text,
                jurisdiction,
                models,
                idempotency_key=idempotency_key,
                max_rounds=max_rounds,
                on_event=events.put_nowait,
            )
        )
        running.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            await running
        finally:
            running.cancel()
            await asyncio.wait({running})

    def _enqueue(self, items: Iterable[Item], models: Mapping[str, str], max_rounds: int) -> AsyncGenerator[Enqueued]:
        plan: RunPlan | None = None

        async def prepare(item: Item) -> dict[str, Json]:
            nonlocal plan
            subject = Subject.checked(
                item.bill_id, item.bill_text, item.jurisdiction, models, max_rounds=max_rounds, spec=self.spec
            )
            plan = plan or await self._executor.plan(subject)
            content = {**subject.as_json(), "answered_by": plan.answered_by}
            key = item.idempotency_key if item.idempotency_key is not None else content_key(content)
            return self._run_json(subject, plan, key)

        return enqueue_items(items, prepare, self._db.queue)

    def _run_json(self, subject: Subject, plan: RunPlan, idempotency_key: str | None) -> dict[str, Json]:
        return {
            **subject.as_json(),
            "answered_by": plan.answered_by,
            "code_version": self.code_version,
            "idempotency_key": idempotency_key,
            "max_attempts": self._max_attempts,
        }
