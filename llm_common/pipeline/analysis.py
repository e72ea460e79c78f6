"""`AnalysisPipeline`: a text in, a grounded and reviewed analysis out, however often its process dies.

pipeline = AnalysisPipeline(llm, search, tracker, db)
analysis = await pipeline.run("AB-1234", text, "California", models={"research": ..., "generate": ..., "review": ...})
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, overload

from typing_extensions import TypeVar

from llm_common.cost_tracker import CostTracker
from llm_common.db.database import Database, DatabaseSource
from llm_common.db.functions.runs import ClaimedRun, Lease, RunRecord
from llm_common.db.transport import Json
from llm_common.exceptions import (
    InvalidInputError,
    LLMCommonError,
    LLMError,
    PipelineError,
    RunCancelledError,
    RunFencedError,
    RunInProgressError,
)
from llm_common.llm_client import LLMClient
from llm_common.per_loop import PerLoop
from llm_common.pipeline.endings import Ending, Ends, Release, Retry, back_to_the_queue, for_good, told
from llm_common.pipeline.events import OnEvent, PipelineEvent
from llm_common.pipeline.evidence import Evidence
from llm_common.pipeline.joining import Finding, joined_critique
from llm_common.pipeline.leases import LeaseKeeper, fenced, worker_name
from llm_common.pipeline.legislation import LEGISLATION, BillAnalysis
from llm_common.pipeline.many import Enqueued, Item, RunResult, carried_out, enqueued, key_of
from llm_common.pipeline.prompts import code_version, spec_of
from llm_common.pipeline.reading import Reading
from llm_common.pipeline.result import analysis_of, as_stored
from llm_common.pipeline.runs import RunSession
from llm_common.pipeline.schemas import AnalysisResult
from llm_common.pipeline.side_by_side import side_by_side
from llm_common.pipeline.spec import AnalysisSpec
from llm_common.pipeline.steps import divide, generate, refine, research, review
from llm_common.pipeline.subject import Subject, check_spec
from llm_common.pipeline.window import Room, reading_of, room_for
from llm_common.uninterrupted import uninterrupted
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
    ) -> None:
        if lease_seconds <= 0 or max_attempts < 1:
            raise InvalidInputError("lease_seconds must be more than 0, and max_attempts at least 1")
        self._llm, self._search = llm_client, search_client
        self._db = Database.of(db)
        self._tracker = cost_tracker if cost_tracker is not None else CostTracker(self._db)
        self.spec: AnalysisSpec[A] = spec
        self._code_version = code_version(spec)
        self._lease_seconds, self._max_attempts = lease_seconds, max_attempts
        self._leases = PerLoop(lambda: LeaseKeeper(self._db, lease_seconds))

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
        """Which runs of the queue this pipeline can carry out, and whose checkpoints it can use."""
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
        """Analyse a bill, or whatever the spec is about: an id, the text, and the context it belongs to.

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
        await self._room(subject)
        worker = worker_name()
        run = self._run_json(subject.as_json(), idempotency_key)
        start = self._db.runs.start(run, worker=worker, lease_seconds=self._lease_seconds)
        return await self._carry_out(start, worker, on_event)

    async def resume(self, run_id: str, *, on_event: OnEvent | None = None) -> A:
        """Go on with a run that failed, was cancelled, or lost its worker; a completed one's result is returned.

        Finished steps of this version of the code are not asked again. Raises like `run`, and `PipelineError` for an
        unknown run, or for a run of another spec.
        """
        check_spec(run_id, spec_of((await self._db.runs.get(run_id)).code_version), self.spec)
        worker = worker_name()
        resume = self._db.runs.resume(
            run_id, worker=worker, code_version=self.code_version, lease_seconds=self._lease_seconds
        )
        return await self._carry_out(resume, worker, on_event)

    async def enqueue(self, items: Iterable[Item], models: Mapping[str, str], *, max_rounds: int = 2) -> list[Enqueued]:
        """Put items into the queue, for workers (`llm-common worker`) on whatever machine; one answer for each item.

        An item that was enqueued before is the same run: one that failed or was cancelled waits again. One that cannot
        be a run (see `run`) comes with its error, the others are enqueued. Items are read as they are needed.
        """
        async with aclosing(self._enqueued(items, models, max_rounds)) as runs:
            return [run async for run in runs]

    async def stream_many(
        self,
        items: Iterable[Item],
        models: Mapping[str, str],
        *,
        concurrency: int = 8,
        max_rounds: int = 2,
        on_event: OnEvent | None = None,
    ) -> AsyncGenerator[RunResult[A]]:
        """Analyse many: results as they come, `position` says whose. Nothing of 100,000 items is kept in memory.

        Each item is enqueued first, so that the same call, or a worker, goes on where this one stopped: what is
        completed is only read. At most `concurrency` runs are carried out at the same time. What one item raises is in
        its result and stops no other. Leaving the iteration gives the runs in hand back to the queue.
        """
        if concurrency < 1:
            raise InvalidInputError(f"concurrency must be at least 1, got {concurrency}")
        carry_out = partial(self.finish, on_event=on_event)
        runs = self._enqueued(items, models, max_rounds)
        async with aclosing(carried_out(runs, carry_out, concurrency=concurrency)) as results:
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
    ) -> list[RunResult[A]]:
        """Like `stream_many`, as a list in the order of the items."""
        stream = self.stream_many(items, models, concurrency=concurrency, max_rounds=max_rounds, on_event=on_event)
        async with aclosing(stream) as results:
            return sorted([result async for result in results], key=lambda result: result.position)

    async def finish(self, run_id: str, *, on_event: OnEvent | None = None) -> A:
        """The result of an enqueued run: carried out here, unless somebody else does; then it is waited for.

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
                return await self._carry_out(take, worker, on_event, back_to_the_queue)
            except (RunInProgressError, RunFencedError):
                await asyncio.sleep(look)
                look = min(look * 1.5, _LOOK_SELDOM)
            except LLMError as error:
                run = await self._db.runs.get(run_id)
                if not error.retryable or run.status != "queued":
                    raise
                await asyncio.sleep((run.run_at - datetime.now(UTC)).total_seconds())

    async def carry_out(
        self, claimed: ClaimedRun, worker: str, *, on_event: OnEvent | None = None, ends: Ends = back_to_the_queue
    ) -> A:
        """Do what is left of a run that `worker` has claimed from the queue. Raises what stopped it."""

        async def already() -> ClaimedRun:
            return claimed

        return await self._carry_out(already(), worker, on_event, ends)

    async def cancel(self, run_id: str) -> RunRecord:
        """Ask a run to stop: its worker does so at its next sign of life. One without a worker is cancelled at once."""
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

    def _enqueued(self, items: Iterable[Item], models: Mapping[str, str], max_rounds: int) -> AsyncGenerator[Enqueued]:
        async def prepare(item: Item) -> dict[str, Json]:
            subject = Subject.checked(
                item.bill_id, item.bill_text, item.jurisdiction, models, max_rounds=max_rounds, spec=self.spec
            )
            await self._room(subject)
            run = subject.as_json()
            key = item.idempotency_key if item.idempotency_key is not None else key_of(run)
            return self._run_json(run, key)

        return enqueued(items, prepare, self._db.queue)

    def _run_json(self, subject: Mapping[str, Json], idempotency_key: str | None) -> dict[str, Json]:
        return {
            **subject,
            "code_version": self.code_version,
            "idempotency_key": idempotency_key,
            "max_attempts": self._max_attempts,
        }

    async def _room(self, subject: Subject) -> Room:
        """Models that are unknown, have no key or no room for us are told before anything is written or paid."""
        names = tuple(dict.fromkeys(subject.models.values()))
        for model in names:
            await self._llm.check(subject.spec.prompts.role, model, ledger=self._tracker)
        return room_for(subject.spec, {model: await self._llm.model_info(model) for model in names})

    async def _carry_out(
        self,
        claim: Coroutine[Any, Any, ClaimedRun],
        worker: str,
        on_event: OnEvent | None,
        ends: Ends = for_good,
    ) -> A:
        """Claim the run and do what is left of it. Unless it is completed, it ends or goes back as `ends` decides."""
        claimed: ClaimedRun | None = None

        async def taken() -> ClaimedRun:
            nonlocal claimed
            claimed = await claim
            return claimed

        try:
            return await self._result(await uninterrupted(taken()), worker, on_event)
        except RunFencedError:
            raise  # the run is another worker's, and so is its end
        except (asyncio.CancelledError, Exception) as error:
            await self._end(claimed, worker, error, ends)
            raise

    async def _result(self, claimed: ClaimedRun, worker: str, on_event: OnEvent | None) -> A:
        if claimed.state in {"exhausted", "ended"}:
            kind = RunCancelledError if claimed.run.status == "cancelled" else PipelineError
            raise kind(f"run {claimed.run.id} {claimed.run.status}: {claimed.run.error_message}", run_id=claimed.run.id)
        if claimed.state == "completed":
            return analysis_of(claimed.run, self.spec)
        subject = Subject.from_stored(claimed.run, claimed.input, self.spec)
        lease = self._lease(claimed, worker)
        session = RunSession(
            claimed,
            lease,
            subject.models,
            settings=self.spec.settings,
            llm=self._llm,
            tracker=self._tracker,
            db=self._db,
            on_event=on_event,
        )
        await session.tell("run_started")
        evidence, findings = await self._leases.get().while_held(lease, self._analyse(subject, session))
        critique = joined_critique(findings)
        completed = await uninterrupted(
            self._db.runs.complete(
                lease,
                analysis=as_stored(subject, evidence, findings),
                review=critique.model_dump(mode="json"),
                review_passed=critique.passed,
            )
        )
        if completed is None:
            raise fenced(lease)
        analysis = analysis_of(completed, self.spec)
        await session.tell("run_finished", analysis=analysis)
        return analysis

    async def _analyse(self, subject: Subject, run: RunSession) -> tuple[Evidence, list[Finding]]:
        room = await self._room(subject)
        parts = await divide(subject, room, run)
        evidence = await research(subject, parts, self._search, run)
        works = [partial(self._analyse_part, await reading_of(subject, part, evidence, room), run) for part in parts]
        return evidence, await side_by_side(works, subject.spec.parts_at_once)

    async def _analyse_part(self, reading: Reading, run: RunSession) -> Finding:
        rounds = 0
        draft = await generate(reading, run)
        critique = await review(reading, draft, run, number=1)
        while rounds < reading.subject.max_rounds and (draft.unsupported or not critique.passed):
            rounds += 1
            draft = await refine(reading, draft, critique, run, number=rounds)
            critique = await review(reading, draft, run, number=rounds + 1)
        return Finding(reading, draft, critique, rounds)

    async def _end(self, claimed: ClaimedRun | None, worker: str, error: BaseException, ends: Ends) -> None:
        """Store how the run ended. Where that is not possible it ends with its lease."""
        if claimed is None or claimed.state != "claimed":
            return
        run, lease = claimed.run, self._lease(claimed, worker)
        try:
            became = await uninterrupted(self._ended(lease, ends(error, run.attempts), told(error)))
            error.add_note(f"run {run.id} is {became}; it goes on from its last finished step")
        except LLMCommonError as lost:
            error.add_note(f"how run {run.id} ended could not be stored ({lost}), so it ends when its lease does")

    async def _ended(self, lease: Lease, ending: Ending, reason: str) -> str:
        if isinstance(ending, Release):
            return await self._db.queue.release(lease, wait_seconds=ending.wait_seconds, reason=reason)
        if isinstance(ending, Retry):
            return await self._db.queue.retry(lease, wait_seconds=ending.wait_seconds, reason=reason)
        return ending.status if await self._db.runs.stop(lease, ending.status, reason) else "fenced"

    def _lease(self, claimed: ClaimedRun, worker: str) -> Lease:
        return Lease(claimed.run.id, worker, claimed.run.epoch, self._lease_seconds)
