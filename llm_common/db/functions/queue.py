"""The SQL functions of the queue in migrations/*_pipeline.sql."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from llm_common.db.functions.runs import (
    ClaimedRun,
    Lease,
    LeaseState,
    RunStatus,
    checked_run_id,
    claimed_run,
    moment,
)
from llm_common.db.transport import Call, Json

__all__ = [
    "BusyWorker",
    "ClaimedBatch",
    "EnqueuedRun",
    "PutBack",
    "QueueFunctions",
    "QueueStatus",
    "WaitingRuns",
]

#: What became of a run that was to go back into the queue; `fenced`: another worker has it.
PutBack = Literal["queued", "cancelled", "failed", "fenced"]


@dataclass(frozen=True, slots=True)
class EnqueuedRun:
    """A run that is in the database now. `refused` says why it is not the one that was meant, else None."""

    run_id: str
    status: RunStatus
    refused: str | None


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """What a worker got. `wait_seconds`: until the next run of its code is due; None where none waits."""

    runs: tuple[ClaimedRun, ...]
    wait_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRuns:
    """The queued runs of one code version: `due` may be claimed now (the first since `due_since`), `delayed` may not.

    The first of the delayed ones is due at `next_at`; `reason` is what it waits for.
    """

    code_version: str
    due: int
    delayed: int
    due_since: datetime | None
    next_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class BusyWorker:
    """A worker and the number of runs whose leases it holds."""

    worker: str
    code_version: str
    runs: int


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """What waits, by code version, and who works."""

    waiting: tuple[WaitingRuns, ...]
    workers: tuple[BusyWorker, ...]


class QueueFunctions:
    """`db.queue`. Times are in seconds; run ids are UUIDs as text."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def enqueue(self, runs: Sequence[Mapping[str, Json]]) -> tuple[EnqueuedRun, ...]:
        """Put runs, each as `db.runs.start` takes it, into the queue, all or none; the answers are in the same order.

        The same idempotency key is the same run. One that failed or was cancelled waits again with all its attempts;
        one that waits for other code waits for this; others stay as they are.
        """
        answer = cast("list[Any]", await self._call("enqueue_runs", {"runs": [dict(run) for run in runs]}))
        return tuple(EnqueuedRun(row["id"], row["status"], row["refused"]) for row in answer)

    async def claim(self, worker: str, *, code_version: str, max_runs: int, lease_seconds: float) -> ClaimedBatch:
        """Take up to `max_runs` runs that are due for this code, the longest due first."""
        arguments: dict[str, Json] = {
            "worker": worker,
            "code_version": code_version,
            "max_runs": max_runs,
            "lease_seconds": lease_seconds,
        }
        answer = cast("dict[str, Any]", await self._call("claim_runs", arguments))
        return ClaimedBatch(tuple(claimed_run(row) for row in answer["runs"]), answer["wait_seconds"])

    async def take(self, run_id: str, *, worker: str, code_version: str, lease_seconds: float) -> ClaimedRun:
        """Take this run, also before it is due. One that failed or was cancelled comes back as "ended".

        Raises `RunInProgressError` for a run with a living owner, `PipelineError` for an unknown one.
        """
        arguments: dict[str, Json] = {
            "run_id": checked_run_id(run_id),
            "worker": worker,
            "code_version": code_version,
            "lease_seconds": lease_seconds,
        }
        return claimed_run(await self._call("take_run", arguments))

    async def renew(self, leases: Sequence[Lease]) -> dict[str, LeaseState]:
        """Prolong many leases in one call; their states by run id."""
        answer = await self._call("renew_run_leases", {"leases": [lease.as_json() for lease in leases]})
        return cast("dict[str, LeaseState]", answer)

    async def release(self, lease: Lease, *, wait_seconds: float, reason: str) -> PutBack:
        """Give a run back to the queue as if it had not been tried; it is due after `wait_seconds`."""
        arguments: dict[str, Json] = {"lease": lease.as_json(), "wait_seconds": wait_seconds, "reason": reason}
        return cast("PutBack", await self._call("release_run", arguments))

    async def retry(self, lease: Lease, *, wait_seconds: float, reason: str) -> PutBack:
        """Give a run back to the queue after an attempt that counts; "failed" where it was the last one."""
        arguments: dict[str, Json] = {"lease": lease.as_json(), "wait_seconds": wait_seconds, "reason": reason}
        return cast("PutBack", await self._call("retry_run", arguments))

    async def status(self) -> QueueStatus:
        """What waits, for which code and why, and who works on what."""
        answer = cast("dict[str, Any]", await self._call("queue_status", {}))
        return QueueStatus(
            tuple(_waiting(row) for row in answer["waiting"]),
            tuple(BusyWorker(row["worker"], row["code_version"], row["runs"]) for row in answer["workers"]),
        )


def _waiting(row: dict[str, Any]) -> WaitingRuns:
    return WaitingRuns(
        code_version=row["code_version"],
        due=row["due"],
        delayed=row["delayed"],
        due_since=moment(row["due_since"]) if row["due_since"] else None,
        next_at=moment(row["next_at"]) if row["next_at"] else None,
        reason=row["reason"],
    )
