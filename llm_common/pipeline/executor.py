"""Carries a claimed run out: research → generate → review → refine, and how it ends where it cannot be completed."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

from llm_common._runtime.bounded_gather import bounded_gather
from llm_common._runtime.per_loop import PerLoop
from llm_common._runtime.shielding import run_shielded
from llm_common.cost_tracker import CostTracker
from llm_common.db.database import Database
from llm_common.db.functions.runs import ClaimedRun, Lease
from llm_common.db.transport import Json
from llm_common.exceptions import LLMCommonError, PipelineError, RunCancelledError, RunFencedError
from llm_common.llm_client import LLMClient
from llm_common.pipeline.context_window import build_part_context
from llm_common.pipeline.dispositions import Ending, Ends, Release, Retry, told
from llm_common.pipeline.events import OnEvent, PipelineEvent, emit
from llm_common.pipeline.leases import LeaseKeeper, fenced
from llm_common.pipeline.merging import PartResult, merge_critiques
from llm_common.pipeline.part_context import PartContext
from llm_common.pipeline.result import result_from_run, result_json
from llm_common.pipeline.run_plan import RunPlan, all_hosts, check_origin, plan_run
from llm_common.pipeline.schemas import AnalysisResult, ReviewCritique
from llm_common.pipeline.session import RunSession
from llm_common.pipeline.spec import AnalysisSpec
from llm_common.pipeline.steps import divide, generate, refine, research, review
from llm_common.pipeline.subject import Subject
from llm_common.web_search import WebSearchClient

__all__ = ["RunExecutor"]

A = TypeVar("A", bound=AnalysisResult)


class RunExecutor(Generic[A]):
    """Does what is left of runs that it is given a claim of, any number at the same time.

    A run's lease of `lease_seconds` is prolonged while it is in hand, and each step is stored with its money.
    """

    def __init__(
        self,
        llm: LLMClient,
        search: WebSearchClient,
        tracker: CostTracker,
        db: Database,
        spec: AnalysisSpec[A],
        lease_seconds: float,
        *,
        offline: bool,
    ) -> None:
        self._offline = offline
        self._llm, self._search, self._tracker, self._db = llm, search, tracker, db
        self._spec, self._lease_seconds = spec, lease_seconds
        self._leases = PerLoop(lambda: LeaseKeeper(db, lease_seconds))

    async def plan(self, subject: Subject) -> RunPlan:
        """Raises for a model that is unknown, without a key or too small, before anything is written or paid."""
        return await plan_run(subject, self._llm, self._tracker, offline=self._offline)

    async def execute(
        self,
        claim: Coroutine[Any, Any, ClaimedRun],
        worker: str,
        on_event: OnEvent | None,
        ends: Ends,
        plan: RunPlan | None = None,
    ) -> A:
        """Claims the run and does what is left of it. Unless it is completed, it ends or goes back as `ends` decides.

        `plan` is what the method of this name gave, where the caller has asked it already.
        """
        claimed: ClaimedRun | None = None

        async def taken() -> ClaimedRun:
            nonlocal claimed
            claimed = await claim
            return claimed

        try:
            return await self._result(await run_shielded(taken()), worker, on_event, plan)
        except RunFencedError:
            raise  # the run is another worker's, and so is its end
        except (asyncio.CancelledError, Exception) as error:
            await self._end(claimed, worker, error, ends)
            raise

    async def _result(self, claimed: ClaimedRun, worker: str, on_event: OnEvent | None, plan: RunPlan | None) -> A:
        run = claimed.run
        if claimed.state in {"exhausted", "ended"}:
            kind = RunCancelledError if run.status == "cancelled" else PipelineError
            raise kind(f"run {run.id} {run.status}: {run.error_message}", run_id=run.id)
        if claimed.state == "completed":
            return result_from_run(run, self._spec)
        subject = Subject.from_stored(run, claimed.input, self._spec)
        lease = self._lease(claimed, worker)
        await emit(on_event, PipelineEvent(kind="run_started", run_id=run.id))
        work = self._analyse(subject, claimed, lease, on_event, plan)
        analysis, critique = await self._leases.get().while_held(lease, work)
        completed = await run_shielded(
            self._db.runs.complete(
                lease,
                analysis=analysis,
                review=critique.model_dump(mode="json"),
                review_passed=critique.passed,
            )
        )
        if completed is None:
            raise fenced(lease)
        result = result_from_run(completed, self._spec)
        await emit(on_event, PipelineEvent(kind="run_finished", run_id=run.id, analysis=result))
        return result

    async def _analyse(
        self, subject: Subject, claimed: ClaimedRun, lease: Lease, on_event: OnEvent | None, plan: RunPlan | None
    ) -> tuple[dict[str, Json], ReviewCritique]:
        plan = plan or await self.plan(subject)
        check_origin(claimed.run.id, claimed.run.answered_by, offline=self._offline)
        session = RunSession(
            claimed,
            lease,
            subject.models,
            settings=plan.settings,
            llm=self._llm,
            tracker=self._tracker,
            db=self._db,
            on_event=on_event,
        )
        parts = await divide(subject, plan.capacity, session)
        evidence = await research(subject, parts, self._search, session)
        contexts = [await build_part_context(subject, part, evidence, plan.capacity) for part in parts]
        works = [partial(self._analyse_part, context, session) for context in contexts]
        part_results = await bounded_gather(works, subject.spec.parts_at_once)
        analysis = result_json(subject, evidence, part_results)
        analysis["answered_by"] = all_hosts(plan.answered_by, claimed.run.answered_by)
        return analysis, merge_critiques(part_results)

    async def _analyse_part(self, context: PartContext, run: RunSession) -> PartResult:
        rounds = 0
        draft = await generate(context, run)
        critique = await review(context, draft, run, number=1)
        while rounds < context.subject.max_rounds and (draft.unsupported or not critique.passed):
            rounds += 1
            draft = await refine(context, draft, critique, run, number=rounds)
            critique = await review(context, draft, run, number=rounds + 1)
        return PartResult(context, draft, critique, rounds)

    async def _end(self, claimed: ClaimedRun | None, worker: str, error: BaseException, ends: Ends) -> None:
        """Store how the run ended. Where that is not possible it ends with its lease."""
        if claimed is None or claimed.state != "claimed":
            return
        run, lease = claimed.run, self._lease(claimed, worker)
        try:
            became = await run_shielded(self._ended(lease, ends(error, run.attempts), told(error)))
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
