"""Judges what was recorded and takes the new path back: store, judge, latch, tell. One way, from outcome to flag."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from llm_common.db.functions.rollout import ArmOutcome, RolloutFlag, RolloutReport
from llm_common.exceptions import LLMCommonError
from llm_common.rollout.flag_cache import FlagCache
from llm_common.rollout.guardrail import Guardrail, rollback_reason

__all__ = ["FlagStore", "RolledBack", "RolloutGuard"]

_log = logging.getLogger("llm_common.rollout")


class FlagStore(Protocol):
    """Where flags and outcomes are kept: `db.rollout`, or `LocalFlags` within the process."""

    async def get(self, flag: str) -> RolloutFlag: ...
    async def set_percentage(self, flag: str, percentage: int | None) -> RolloutFlag: ...
    async def set_enabled(self, flag: str, *, enabled: bool) -> RolloutFlag: ...
    async def reset(self, flag: str, percentage: int | None) -> RolloutFlag: ...
    async def latch(self, flag: str, epoch: int, reason: str) -> RolloutFlag | None: ...
    async def record(
        self, flag: str, outcomes: Sequence[ArmOutcome], *, newest: int, max_age_seconds: float, slow_ratio: float
    ) -> RolloutReport: ...
    async def report(self, flag: str, *, newest: int, max_age_seconds: float, slow_ratio: float) -> RolloutReport: ...


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A rollback that this process decided."""

    flag: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RolloutGuard:
    """The guardrail of one flag. `cache` is told of every change that is seen here."""

    flag: str
    store: FlagStore
    cache: FlagCache
    rule: Guardrail
    on_rollback: Callable[[RolledBack], Awaitable[None] | None] | None = None

    async def record(self, outcomes: Sequence[ArmOutcome]) -> None:
        """Store a batch, and roll back where the figures are beyond doubt. Raises what the store does."""
        rule = self.rule
        report = await self.store.record(
            self.flag,
            outcomes,
            newest=rule.window_calls,
            max_age_seconds=rule.window_seconds,
            slow_ratio=rule.latency_ratio,
        )
        self.cache.put(report.flag)
        reason = rollback_reason(report.new, report.old, rule, report.flag.percentage or 0)
        if reason is not None and report.flag.rolled_back_at is None:
            await self._roll_back(report.flag.epoch, reason)

    async def report(self) -> RolloutReport:
        rule = self.rule
        return await self.store.report(
            self.flag, newest=rule.window_calls, max_age_seconds=rule.window_seconds, slow_ratio=rule.latency_ratio
        )

    async def _roll_back(self, epoch: int, reason: str) -> None:
        try:
            flag = await self.store.latch(self.flag, epoch, reason)
        except LLMCommonError as error:
            # Not raised: the outcomes are stored, and must not be stored again. The next ones come to the same end.
            _log.warning("rollout %s: should be rolled back (%s), which failed: %s", self.flag, reason, error)
            return
        if flag is None or flag.rolled_back_at is None:
            return
        self.cache.put(flag)
        _log.error("rollout %s: rolled back, everybody gets the old path: %s", self.flag, reason)
        if self.on_rollback is None:
            return
        try:
            waiting = self.on_rollback(RolledBack(self.flag, reason, flag.rolled_back_at))
            if inspect.isawaitable(waiting):
                await waiting
        except Exception:  # noqa: BLE001 (the host's function, in the background)
            _log.exception("rollout %s: on_rollback failed; the rollback stands", self.flag)
