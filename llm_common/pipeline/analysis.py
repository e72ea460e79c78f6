"""`AnalysisPipeline`: a text in, a grounded and reviewed analysis out, however often its process dies.

pipeline = AnalysisPipeline(llm, search, tracker, db)
analysis = await pipeline.run("AB-1234", text, "California", models={"research": ..., "generate": ..., "review": ...})
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from functools import partial
from typing import Any, Final, Generic, Literal, overload

from typing_extensions import TypeVar

from llm_common.cost_tracker import CostTracker
from llm_common.db.database import Database, DatabaseSource
from llm_common.db.functions.runs import ClaimedRun, Lease, RunRecord
from llm_common.exceptions import (
    InvalidInputError,
    LLMCommonError,
    PipelineError,
    RunCancelledError,
    RunFencedError,
)
from llm_common.llm_client import LLMClient
from llm_common.pipeline.events import OnEvent, PipelineEvent
from llm_common.pipeline.evidence import Evidence
from llm_common.pipeline.joining import Finding, joined_critique
from llm_common.pipeline.legislation import LEGISLATION, BillAnalysis
from llm_common.pipeline.prompts import code_version, spec_of
from llm_common.pipeline.reading import Reading
from llm_common.pipeline.result import analysis_of, as_stored
from llm_common.pipeline.runs import RunSession, fenced, while_held, worker_name
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

_MAX_ERROR: Final = 2_000


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
        start = self._db.runs.start(
            {
                **subject.as_json(),
                "code_version": self._code_version,
                "idempotency_key": idempotency_key,
                "max_attempts": self._max_attempts,
            },
            worker=worker,
            lease_seconds=self._lease_seconds,
        )
        return await self._carry_out(start, worker, on_event)

    async def resume(self, run_id: str, *, on_event: OnEvent | None = None) -> A:
        """Go on with a run that failed, was cancelled, or lost its worker; a completed one's result is returned.

        Finished steps of this version of the code are not asked again. Raises like `run`, and `PipelineError` for an
        unknown run, or for a run of another spec.
        """
        check_spec(run_id, spec_of((await self._db.runs.get(run_id)).code_version), self.spec)
        worker = worker_name()
        resume = self._db.runs.resume(
            run_id, worker=worker, code_version=self._code_version, lease_seconds=self._lease_seconds
        )
        return await self._carry_out(resume, worker, on_event)

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

    async def _room(self, subject: Subject) -> Room:
        """Models that are unknown, have no key or no room for us are told before anything is written or paid."""
        names = tuple(dict.fromkeys(subject.models.values()))
        for model in names:
            await self._llm.check(subject.spec.prompts.role, model, ledger=self._tracker)
        return room_for(subject.spec, {model: await self._llm.model_info(model) for model in names})

    async def _carry_out(self, claim: Coroutine[Any, Any, ClaimedRun], worker: str, on_event: OnEvent | None) -> A:
        """Claim the run, do what is left of it, and leave it in a terminal state whatever happens."""
        claimed: ClaimedRun | None = None

        async def taken() -> ClaimedRun:
            nonlocal claimed
            claimed = await claim
            return claimed

        try:
            return await self._result(await uninterrupted(taken()), worker, on_event)
        except RunFencedError:
            raise  # the run is another worker's, and so is its end
        except (asyncio.CancelledError, RunCancelledError) as error:
            await self._end(claimed, worker, "cancelled", error)
            raise
        except Exception as error:
            await self._end(claimed, worker, "failed", error)
            raise

    async def _result(self, claimed: ClaimedRun, worker: str, on_event: OnEvent | None) -> A:
        if claimed.state == "exhausted":
            raise PipelineError(f"run {claimed.run.id} failed: {claimed.run.error_message}", run_id=claimed.run.id)
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
        evidence, findings = await while_held(self._db, lease, self._analyse(subject, session))
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

    async def _end(
        self,
        claimed: ClaimedRun | None,
        worker: str,
        status: Literal["failed", "cancelled"],
        error: BaseException,
    ) -> None:
        """Store how the run ended. Where that is not possible it ends with its lease."""
        if claimed is None or claimed.state != "claimed":
            return
        error.add_note(f"run {claimed.run.id} is {status}; resume goes on from its last finished step")
        try:
            await uninterrupted(self._db.runs.stop(self._lease(claimed, worker), status, _told(error)))
        except LLMCommonError as lost:
            error.add_note(f"that could not be stored ({lost}), so the run ends when its lease does")

    def _lease(self, claimed: ClaimedRun, worker: str) -> Lease:
        return Lease(claimed.run.id, worker, claimed.run.epoch, self._lease_seconds)


def _told(error: BaseException) -> str:
    """For `error_message`. Our own messages have neither keys nor prompts in them; of others nobody knows."""
    if isinstance(error, LLMCommonError):
        return f"{type(error).__name__}: {error}"[:_MAX_ERROR]
    return "its task was cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__
