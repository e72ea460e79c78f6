"""The SQL functions of migrations/*_pipeline.sql that concern one run, and its reports."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, cast
from uuid import UUID

from llm_common.db.errors import register_refusal
from llm_common.db.functions.comparison import PipelineFigures, pipeline_figures
from llm_common.db.transport import Call, Json
from llm_common.exceptions import (
    InvalidInputError,
    PipelineError,
    RunCancelledError,
    RunFencedError,
    RunInProgressError,
)
from llm_common.money import to_usd

__all__ = [
    "ClaimedRun",
    "Lease",
    "LeaseState",
    "RunCharge",
    "RunFunctions",
    "RunRecord",
    "RunStatus",
    "StepOutput",
    "StepRecord",
    "SweptRuns",
    "checked_run_id",
    "claimed_run",
    "moment",
]

RunStatus = Literal["queued", "running", "completed", "failed", "cancelled"]
#: `held`: go on. `cancelled`: still held, but somebody asked the run to stop. `fenced`: another worker has it.
LeaseState = Literal["held", "cancelled", "fenced"]


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's right to write to a run, good for `seconds` after each use; `epoch` counts the run's owners."""

    run_id: str
    worker: str
    epoch: int
    seconds: float

    def as_json(self) -> dict[str, Json]:
        return {"run_id": self.run_id, "worker": self.worker, "epoch": self.epoch, "seconds": self.seconds}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """What is stored of a step: `key` names it within its run (`review:2`), `step` is its kind (`review`).

    `output` None: the step failed, and is only remembered for what it cost.
    """

    key: str
    step: str
    model: str | None
    output: Json

    def as_json(self) -> dict[str, Json]:
        return {"key": self.key, "step": self.step, "model": self.model, "output": self.output}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """A step for people. Cost, tokens and milliseconds are None for one that called no model."""

    key: str
    step: str
    model: str | None
    status: Literal["completed", "failed"]
    timestamp: datetime
    cost_usd: Decimal | None
    tokens_used: int | None
    latency_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCharge:
    """What a run was charged beside its stored steps: searches (`kind` "search"), and calls that were cut or failed.

    `model` of a search is its provider's; `calls` of the same kind, step, model and status are one charge.
    """

    kind: str
    step: str | None
    model: str
    status: str
    calls: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as it is stored, without the bill's text. `analysis` and `review` are the JSON of their models.

    `cost_usd` is what was settled so far; `attempts` how many workers took it up; a queued one waits at least until
    `run_at`; `answered_by` are the hosts that it asks, "offline" for a scripted provider, None for runs of before.
    `steps` and `charges` only come with `get`; together they are `cost_usd`.
    """

    id: str
    bill_id: str
    jurisdiction: str
    models: Mapping[str, str]
    status: RunStatus
    started_at: datetime
    completed_at: datetime | None
    analysis: Mapping[str, Any] | None
    review: Mapping[str, Any] | None
    review_passed: bool | None
    quality_score: float | None
    quality_note: str | None
    error_message: str | None
    cost_usd: Decimal
    code_version: str
    idempotency_key: str | None
    worker: str | None
    epoch: int
    attempts: int
    cancel_requested: bool
    run_at: datetime
    answered_by: str | None = None
    steps: tuple[StepRecord, ...] = ()
    charges: tuple[RunCharge, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedRun:
    """What a start or resume came to.

    `claimed`: work on it, from `steps` (step key → stored output) on. `completed`: the result is in `run`.
    `exhausted`: its workers died too often, so it has just been failed. `ended`: it failed or was cancelled before.
    """

    state: Literal["claimed", "completed", "exhausted", "ended"]
    run: RunRecord
    input: Mapping[str, Any]
    steps: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class SweptRuns:
    """How many runs without a living owner were ended or queued again."""

    cancelled: int
    failed: int
    queued: int


class RunFunctions:
    """`db.runs`. Times are in seconds; run ids are UUIDs as text."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def start(self, run: Mapping[str, Json], *, worker: str, lease_seconds: float) -> ClaimedRun:
        """`run` has bill_id, jurisdiction, models, input, code_version, and may have idempotency_key, max_attempts and
        answered_by.

        Raises `RunInProgressError` where the key's run has a living owner, and `InvalidInputError` where it has
        another input or was answered by others.
        """
        arguments: dict[str, Json] = {"run": dict(run), "worker": worker, "lease_seconds": lease_seconds}
        return claimed_run(await self._call("start_run", arguments))

    async def resume(self, run_id: str, *, worker: str, code_version: str, lease_seconds: float) -> ClaimedRun:
        """Raises `RunInProgressError` for a run with a living owner, `PipelineError` for an unknown one."""
        arguments: dict[str, Json] = {
            "run_id": checked_run_id(run_id),
            "worker": worker,
            "code_version": code_version,
            "lease_seconds": lease_seconds,
        }
        return claimed_run(await self._call("resume_run", arguments))

    async def renew(self, lease: Lease) -> LeaseState:
        return cast("LeaseState", await self._call("renew_run_lease", {"lease": lease.as_json()}))

    async def finish_step(
        self, lease: Lease, step: StepOutput, *, reservation_id: str, outcome: Mapping[str, Json]
    ) -> tuple[LeaseState, Json]:
        """Store the step, settle its money and prolong the lease, all or nothing.

        The second value is what `settle_cost` answered. A fenced owner's money is settled too, its step is not stored.
        """
        arguments: dict[str, Json] = {
            "lease": lease.as_json(),
            "step": step.as_json(),
            "reservation_id": reservation_id,
            "outcome": dict(outcome),
        }
        answer = cast("dict[str, Json]", await self._call("finish_step", arguments))
        return cast("LeaseState", answer["state"]), answer["settlement"]

    async def save_step(self, lease: Lease, step: StepOutput) -> LeaseState:
        """Store what a step came to without a call of its own to pay."""
        arguments: dict[str, Json] = {"lease": lease.as_json(), "step": step.as_json()}
        return cast("LeaseState", await self._call("save_step", arguments))

    async def complete(
        self, lease: Lease, *, analysis: Json, review: Json, review_passed: bool | None
    ) -> RunRecord | None:
        """Store the result; None, and nothing stored, when another worker has the run."""
        result: dict[str, Json] = {"analysis": analysis, "review": review, "review_passed": review_passed}
        answer = await self._call("complete_run", {"lease": lease.as_json(), "result": result})
        return None if answer is None else _run(answer)

    async def stop(self, lease: Lease, final_status: Literal["failed", "cancelled"], error_message: str) -> bool:
        """End a run that does not complete; False when another worker has it."""
        arguments: dict[str, Json] = {
            "lease": lease.as_json(),
            "final_status": final_status,
            "error_message": error_message,
        }
        return bool(await self._call("stop_run", arguments))

    async def request_cancel(self, run_id: str) -> RunRecord:
        """Ask a living owner to stop; a run that nobody works on is cancelled at once."""
        return _run(await self._call("request_cancel", {"run_id": checked_run_id(run_id)}))

    async def sweep(self, max_rows: int = 100) -> SweptRuns:
        """Take runs from owners who let their lease end."""
        counts = cast("dict[str, int]", await self._call("sweep_stale_runs", {"max_rows": max_rows}))
        return SweptRuns(counts["cancelled"], counts["failed"], counts["queued"])

    async def get(self, run_id: str) -> RunRecord:
        """The run with its steps. Raises `PipelineError` for an unknown one."""
        return _run(await self._call("get_run", {"run_id": checked_run_id(run_id)}))

    async def list(
        self, *, status: RunStatus | None = None, bill_id: str | None = None, limit: int = 50
    ) -> tuple[RunRecord, ...]:
        """The latest first, at most 1,000, without their analyses."""
        wanted: dict[str, Json] = {"status": status, "bill_id": bill_id, "limit": limit}
        rows = cast("list[Json]", await self._call("list_runs", {"wanted": wanted}))
        return tuple(_run(row) for row in rows)

    async def score(self, run_id: str, quality: float, note: str | None = None) -> RunRecord:
        """What a person thinks of the analysis: `quality` from 0 to 1."""
        return _run(await self._call("score_run", {"run_id": checked_run_id(run_id), "quality": quality, "note": note}))

    async def compare(self, run_ids: Iterable[str]) -> tuple[PipelineFigures, ...]:
        """These runs, grouped by what carried them out: spec, code version and models, in the order of first runs."""
        wanted: list[Json] = [checked_run_id(run_id) for run_id in run_ids]
        rows = cast("list[dict[str, Any]]", await self._call("compare_runs", {"run_ids": wanted}))
        return tuple(pipeline_figures(row) for row in rows)


def claimed_run(answer: Json) -> ClaimedRun:
    """What `pipeline_claim` answered."""
    row = cast("dict[str, Any]", answer)
    return ClaimedRun(
        state=row["state"], run=_run(row["run"]), input=row.get("input") or {}, steps=row.get("steps") or {}
    )


def _run(answer: Json) -> RunRecord:
    row = cast("dict[str, Any]", answer)
    completed_at, analysis, review = row["completed_at"], row.get("analysis_json"), row.get("review_json")
    return RunRecord(
        id=row["id"],
        bill_id=row["bill_id"],
        jurisdiction=row["jurisdiction"],
        models=row["models"],
        status=row["status"],
        started_at=moment(row["started_at"]),
        completed_at=moment(completed_at) if completed_at else None,
        analysis=analysis,
        review=review,
        review_passed=row["review_passed"],
        quality_score=row["quality_score"],
        quality_note=row["quality_note"],
        error_message=row["error_message"],
        cost_usd=to_usd(row["cost_nano"]),
        code_version=row["code_version"],
        idempotency_key=row["idempotency_key"],
        worker=row["worker"],
        epoch=row["epoch"],
        attempts=row["attempts"],
        cancel_requested=row["cancel_requested"],
        run_at=moment(row["run_at"]),
        answered_by=row.get("answered_by"),
        steps=tuple(_step(step) for step in row.get("steps", ())),
        charges=tuple(_charge(charge) for charge in row.get("charges", ())),
    )


def _step(row: dict[str, Any]) -> StepRecord:
    return StepRecord(
        key=row["key"],
        step=row["step"],
        model=row["model"],
        status=row["status"],
        timestamp=moment(row["timestamp"]),
        cost_usd=None if row["cost_nano"] is None else to_usd(row["cost_nano"]),
        tokens_used=row["tokens_used"],
        latency_ms=row["latency_ms"],
    )


def _charge(row: dict[str, Any]) -> RunCharge:
    return RunCharge(
        kind=row["kind"],
        step=row["step"],
        model=row["model"],
        status=row["status"],
        calls=row["calls"],
        cost_usd=to_usd(row["cost_nano"]),
    )


def checked_run_id(text: str) -> str:
    """The UUID as PostgreSQL writes it. Raises `InvalidInputError` for what is none."""
    try:
        return str(UUID(text))
    except ValueError as error:
        raise InvalidInputError(f"{text!r} is not a run id; `llm-common runs list` shows those there are") from error


def moment(text: str) -> datetime:
    """A time out of JSON, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _register(code: str, kind: type[PipelineError]) -> None:
    register_refusal(code, lambda message, detail: kind(message, run_id=detail.get("run_id")))


_register("LC004", PipelineError)
_register("LC005", RunFencedError)
_register("LC006", RunInProgressError)
_register("LC007", RunCancelledError)
