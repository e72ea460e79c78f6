"""Flags and outcomes within one process, for a rollout without a database."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import ceil
from statistics import fmean, stdev
from time import monotonic

from llm_common.db.functions.rollout import Arm, ArmOutcome, ArmStats, RolloutFlag, RolloutReport

__all__ = ["LocalFlags"]

#: As many as the SQL keeps of each arm.
_KEPT = 2_000
_P95 = 0.95


@dataclass(slots=True)
class _Held:
    flag: RolloutFlag = field(default_factory=RolloutFlag)
    outcomes: dict[Arm, deque[tuple[float, ArmOutcome]]] = field(
        default_factory=lambda: {"old": deque(maxlen=_KEPT), "new": deque(maxlen=_KEPT)}
    )


class LocalFlags:
    """What `db.rollout` does, for this process alone; the same answers, as a test compares."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    async def get(self, flag: str) -> RolloutFlag:
        return self._of(flag).flag

    async def set_percentage(self, flag: str, percentage: int | None) -> RolloutFlag:
        return self._change(flag, percentage=percentage)

    async def set_enabled(self, flag: str, *, enabled: bool) -> RolloutFlag:
        return self._change(flag, enabled=enabled)

    async def reset(self, flag: str, percentage: int | None) -> RolloutFlag:
        epoch = self._of(flag).flag.epoch + 1
        return self._change(flag, percentage=percentage, epoch=epoch, rolled_back_at=None, rollback_reason=None)

    async def latch(self, flag: str, epoch: int, reason: str) -> RolloutFlag | None:
        held = self._of(flag).flag
        if held.epoch != epoch or held.rolled_back_at is not None:
            return None
        return self._change(flag, rolled_back_at=datetime.now(UTC), rollback_reason=reason)

    async def record(
        self, flag: str, outcomes: Sequence[ArmOutcome], *, newest: int, max_age_seconds: float, slow_ratio: float
    ) -> RolloutReport:
        for outcome in outcomes:
            self._of(flag).outcomes[outcome.arm].append((monotonic(), outcome))
        return await self.report(flag, newest=newest, max_age_seconds=max_age_seconds, slow_ratio=slow_ratio)

    async def report(self, flag: str, *, newest: int, max_age_seconds: float, slow_ratio: float) -> RolloutReport:
        held, since = self._of(flag), monotonic() - max_age_seconds
        arms: dict[Arm, list[ArmOutcome]] = {
            arm: [one for at, one in list(kept)[-newest:] if at > since and one.epoch == held.flag.epoch]
            for arm, kept in held.outcomes.items()
        }
        old = _stats(arms["old"], None)
        slow = None if old.p95_seconds is None else old.p95_seconds * slow_ratio
        return RolloutReport(held.flag, old, _stats(arms["new"], slow))

    def _of(self, flag: str) -> _Held:
        return self._held.setdefault(flag, _Held())

    def _change(self, flag: str, **changes: object) -> RolloutFlag:
        held = self._of(flag)
        held.flag = replace(held.flag, version=held.flag.version + 1, **changes)  # pyright: ignore[reportArgumentType]
        return held.flag


def _stats(outcomes: Sequence[ArmOutcome], slow_seconds: float | None) -> ArmStats:
    seconds = sorted(outcome.seconds for outcome in outcomes if outcome.ok)
    costs = [float(outcome.cost_nano) for outcome in outcomes if outcome.cost_nano is not None]
    return ArmStats(
        calls=len(outcomes),
        errors=len(outcomes) - len(seconds),
        succeeded=len(seconds),
        p95_seconds=seconds[ceil(_P95 * len(seconds)) - 1] if seconds else None,
        slow=0 if slow_seconds is None else sum(second > slow_seconds for second in seconds),
        priced=len(costs),
        mean_cost_nano=fmean(costs) if costs else None,
        sd_cost_nano=stdev(costs) if len(costs) > 1 else None,
    )
