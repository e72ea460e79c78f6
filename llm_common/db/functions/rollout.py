"""The SQL functions of migrations/*_rollout.sql: flags, outcomes of both arms, and the latch."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

from llm_common.db.transport import Call, Json

__all__ = ["Arm", "ArmOutcome", "ArmStats", "RolloutFlag", "RolloutFunctions", "RolloutReport"]

Arm = Literal["new", "old"]


@dataclass(frozen=True, slots=True)
class RolloutFlag:
    """A flag as the database has it; the defaults are those of a flag that it has not heard of.

    `percentage` is None while nobody has set it in the database. `epoch` counts the resets, `version` the changes.
    """

    percentage: int | None = None
    enabled: bool = True
    epoch: int = 1
    rolled_back_at: datetime | None = None
    rollback_reason: str | None = None
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmOutcome:
    """How one call of one arm went. `cost_nano` is None where nobody knows it.

    `compared` and `difference` are those of a shadow run: digests of two results that differ, None for equal ones.
    """

    epoch: int
    arm: Arm
    ok: bool
    seconds: float
    cost_nano: int | None = None
    shadow: bool = False
    compared: bool = False
    difference: str | None = None


@dataclass(frozen=True, slots=True)
class ArmStats:
    """One arm's latest calls. Latency is that of the calls that succeeded; costs are nano-dollars per call.

    `slow` counts the calls that succeeded, but took longer than the other arm's P95 times the allowed ratio.
    """

    calls: int = 0
    errors: int = 0
    succeeded: int = 0
    p95_seconds: float | None = None
    slow: int = 0
    priced: int = 0
    mean_cost_nano: float | None = None
    sd_cost_nano: float | None = None


@dataclass(frozen=True, slots=True)
class RolloutReport:
    """The flag, and how both arms fare in the guardrail's window."""

    flag: RolloutFlag
    old: ArmStats
    new: ArmStats


class RolloutFunctions:
    """`db.rollout`."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def get(self, flag: str) -> RolloutFlag:
        return _flag(await self._call("rollout_get", {"flag_name": flag}))

    async def set_percentage(self, flag: str, percentage: int | None) -> RolloutFlag:
        return _flag(await self._call("rollout_set_percentage", {"flag_name": flag, "new_percentage": percentage}))

    async def set_enabled(self, flag: str, *, enabled: bool) -> RolloutFlag:
        return _flag(await self._call("rollout_set_enabled", {"flag_name": flag, "is_enabled": enabled}))

    async def reset(self, flag: str, percentage: int | None) -> RolloutFlag:
        """Opens the latch; a new epoch begins."""
        return _flag(await self._call("rollout_reset", {"flag_name": flag, "new_percentage": percentage}))

    async def latch(self, flag: str, epoch: int, reason: str) -> RolloutFlag | None:
        """The rolled-back flag for the one caller that closed the latch, None for all others."""
        found = await self._call("rollout_latch", {"flag_name": flag, "in_epoch": epoch, "reason": reason})
        return None if found is None else _flag(found)

    async def record(
        self, flag: str, outcomes: Sequence[ArmOutcome], *, newest: int, max_age_seconds: float, slow_ratio: float
    ) -> RolloutReport:
        """Stores a batch, and reports on the `newest` calls of each arm."""
        arguments: dict[str, Json] = {
            "flag_name": flag,
            "outcomes": [_outcome(outcome) for outcome in outcomes],
            "newest": newest,
            "max_age_seconds": max_age_seconds,
            "slow_ratio": slow_ratio,
        }
        return _report(await self._call("rollout_record", arguments))

    async def report(self, flag: str, *, newest: int, max_age_seconds: float, slow_ratio: float) -> RolloutReport:
        arguments: dict[str, Json] = {
            "flag_name": flag,
            "newest": newest,
            "max_age_seconds": max_age_seconds,
            "slow_ratio": slow_ratio,
        }
        return _report(await self._call("rollout_report", arguments))


def _flag(found: Json) -> RolloutFlag:
    if found is None:
        return RolloutFlag()
    row = cast("dict[str, Any]", found)
    at = row["rolled_back_at"]
    return RolloutFlag(
        row["percentage"],
        row["enabled"],
        row["epoch"],
        None if at is None else datetime.fromisoformat(at).astimezone(UTC),
        row["rollback_reason"],
        row["version"],
    )


def _outcome(outcome: ArmOutcome) -> dict[str, Json]:
    return {
        "epoch": outcome.epoch,
        "arm": outcome.arm,
        "ok": outcome.ok,
        "seconds": outcome.seconds,
        "cost_nano": outcome.cost_nano,
        "shadow": outcome.shadow,
        "compared": outcome.compared,
        "difference": outcome.difference,
    }


def _report(found: Json) -> RolloutReport:
    row = cast("dict[str, Any]", found)
    return RolloutReport(_flag(row["flag"]), ArmStats(**row["old"]), ArmStats(**row["new"]))
