"""`Rollout`: who gets the new path, and when it is taken back.

rollout = Rollout(db, "USE_NEW_LLM_FRAMEWORK", percentage=5)
answer = await rollout.run_or_fall_back(user_id, new=lambda: analyse(bill), old=lambda: analyse_as_before(bill))
"""

import asyncio
import inspect
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Self, TypeVar

from llm_common._runtime.per_loop import PerLoop
from llm_common.db.database import Database, DatabaseSource
from llm_common.db.functions.rollout import ArmOutcome, ArmStats, RolloutFlag, RolloutReport
from llm_common.exceptions import InvalidInputError, LLMCommonError
from llm_common.rollout.arms import NOT_THE_PATHS_FAULT, Arms, cost_usd_of
from llm_common.rollout.assignment import (
    Guardrail,
    Unit,
    checked_percentage,
    host_setting,
    is_in,
    percentage_in_force,
    should_roll_back,
)
from llm_common.rollout.flag_cache import FlagCache
from llm_common.rollout.recorder import OutcomeRecorder

__all__ = ["ArmStats", "Guardrail", "RolledBack", "Rollout", "RolloutFlag", "RolloutReport", "Unit"]

T = TypeVar("T")
_log = logging.getLogger("llm_common.rollout")

_FLUSH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A rollback that this process decided."""

    flag: str
    reason: str
    at: datetime


class Rollout:
    """A percentage flag with shadow runs and a one-way rollback. Safe from many tasks and processes.

    Who decides, the strongest first:

    1. `<FLAG>=false` in the environment: off, whatever else is said.
    2. A rollback: off in every process, until `reset`. `pause` likewise, until `resume`.
    3. `set_percentage`: what the database says.
    4. `<FLAG>_PERCENTAGE` in the environment, then `percentage=` in code; without either, 100 where
       `<FLAG>=true`, else 0.

    For another name of the variables pass `switch_variable` and `percentage_variable`. The environment is read once.

    A unit is in by Unleash's hash of `group` (the flag's name unless given) and unit: always the same answer, and a
    higher percentage only adds units. The flag is read every `ttl` seconds at most; while the database is down
    the last known state holds, and before it was ever reached everybody gets the old path.

    Outcomes are recorded in the background while the percentage is above 0, and judged by `guardrail`. On a rollback
    exactly one process logs it and calls `on_rollback` (sync or async). `cost_of` gives a result's (or error's) cost
    in dollars, None for unknown; the default reads its `cost_usd`.
    """

    def __init__(
        self,
        db: DatabaseSource,
        flag: str,
        *,
        percentage: int | None = None,
        group: str | None = None,
        switch_variable: str | None = None,
        percentage_variable: str | None = None,
        environ: Mapping[str, str] | None = None,
        guardrail: Guardrail | None = None,
        ttl: float = 5.0,
        max_shadows: int = 10,
        shadow_timeout: float = 60.0,
        cost_of: Callable[[object], Decimal | None] = cost_usd_of,
        on_rollback: Callable[[RolledBack], Awaitable[None] | None] | None = None,
    ) -> None:
        if not flag.strip() or "\0" in flag:
            raise InvalidInputError(f"a flag needs a name, such as USE_NEW_LLM_FRAMEWORK, not {flag!r}")
        self._flag = flag
        self._group = group or flag
        self._host = host_setting(
            flag,
            percentage,
            os.environ if environ is None else environ,
            switch_variable=switch_variable,
            percentage_variable=percentage_variable,
        )
        self._rule = guardrail or Guardrail()
        self._max_shadows = max_shadows
        self._shadow_timeout = shadow_timeout
        self._on_rollback = on_rollback
        self._db = Database.of(db)
        self._opened_here = self._db is not db
        self._cache = FlagCache(flag, self._read_flag, ttl)
        self._arms = Arms(flag, self._note, cost_of)
        self._recorders = PerLoop(lambda: OutcomeRecorder(flag, self._record, pause=ttl))
        self._shadows: PerLoop[set[asyncio.Task[None]]] = PerLoop(set)

    async def enabled(self, unit: Unit) -> bool:
        """Whether this unit gets the new path. None and "" never do. Raises nothing of the database's."""
        return is_in(self._group, unit, await self.percentage())

    async def percentage(self) -> int:
        """The percentage in force now; 0 while rolled back, paused, killed or unknown."""
        flag = None if self._host.killed else await self._cache.get()
        return percentage_in_force(flag, self._host)

    async def run(self, unit: Unit, new: Callable[[], Awaitable[T]], old: Callable[[], Awaitable[T]]) -> T:
        """Run the path that is this unit's, and record how it went. Its errors pass through."""
        is_new, epoch = await self._decide(unit)
        return await (self._arms.live("new", new, epoch) if is_new else self._arms.live("old", old, epoch))

    async def run_or_fall_back(self, unit: Unit, new: Callable[[], Awaitable[T]], old: Callable[[], Awaitable[T]]) -> T:
        """Like `run`, but where the new path fails the old one answers.

        Not after `BudgetExceededError` or `RunCancelledError`: the old path would do what was refused.
        """
        is_new, epoch = await self._decide(unit)
        if not is_new:
            return await self._arms.live("old", old, epoch)
        try:
            return await self._arms.live("new", new, epoch)
        except NOT_THE_PATHS_FAULT:
            raise
        except Exception as error:  # noqa: BLE001 (whatever the new path raises, the old one is there for it)
            _log.warning("rollout %s: the new path failed (%s), the old one answers", self._flag, type(error).__name__)
        # Not recorded: what the new path failed on would make the old one look worse than it is.
        return await old()

    async def shadow(
        self,
        unit: Unit,
        new: Callable[[], Awaitable[T]],
        old: Callable[[], Awaitable[T]],
        compare: Callable[[T, T], bool] | None = None,
    ) -> T:
        """Answer with the old path; for units that are in, run the new one afterwards, in the background.

        Nothing that happens to the new path reaches the caller. It has `shadow_timeout` seconds, and is left out
        while `max_shadows` are running. Both results are compared (`compare(old, new)` says whether they agree,
        default `==`); of a difference only digests of the two are recorded.
        """
        is_new, epoch = await self._decide(unit)
        result = await self._arms.live("old", old, epoch)
        shadows = self._shadows.get()
        if is_new and epoch is not None and len(shadows) < self._max_shadows:
            run = self._arms.shadow(new, result, compare, epoch, self._shadow_timeout)
            task = asyncio.create_task(run, name=f"rollout {self._flag}: shadow")
            shadows.add(task)
            task.add_done_callback(shadows.discard)
        return result

    async def set_percentage(self, percentage: int | None) -> None:
        """Give the new path to so many percent (0 to 100), in all processes; None: as environment and code say."""
        share = None if percentage is None else checked_percentage(percentage)
        self._cache.put(await self._db.rollout.set_percentage(self._flag, share))

    async def pause(self) -> None:
        """Everybody gets the old path until `resume`; the percentage is kept."""
        self._cache.put(await self._db.rollout.set_enabled(self._flag, enabled=False))

    async def resume(self) -> None:
        """Undo `pause`. A rollback stays."""
        self._cache.put(await self._db.rollout.set_enabled(self._flag, enabled=True))

    async def reset(self, percentage: int | None) -> None:
        """Undo a rollback, once its reason is mended, and begin again at so many percent (None: as the host says).

        What was recorded before no longer counts.
        """
        share = None if percentage is None else checked_percentage(percentage)
        self._cache.put(await self._db.rollout.reset(self._flag, share))

    async def report(self) -> RolloutReport:
        """The flag as the database has it, and both paths' figures in the guardrail's window."""
        rule = self._rule
        return await self._db.rollout.report(
            self._flag,
            newest=rule.window_calls,
            max_age_seconds=rule.window_seconds,
            slow_ratio=rule.latency_ratio,
        )

    async def flush(self) -> None:
        """Wait until what was recorded so far is stored (and judged), at most 5 seconds."""
        await self._recorders.get().flush(_FLUSH_SECONDS)

    async def aclose(self) -> None:
        """Cancel the shadow runs, store the outcomes, and close what was opened here."""
        shadows = tuple(self._shadows.pop() or ())
        for task in shadows:
            task.cancel()
        if shadows:
            await asyncio.wait(shadows)
        recorder = self._recorders.pop()
        if recorder is not None:
            await recorder.aclose(_FLUSH_SECONDS)
        await self._cache.aclose()
        if self._opened_here:
            await self._db.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _read_flag(self) -> RolloutFlag:
        return await self._db.rollout.get(self._flag)

    async def _decide(self, unit: Unit) -> tuple[bool, int | None]:
        """Whether the unit is in, and the epoch of its outcome (None while nobody is in: nothing to compare)."""
        flag = None if self._host.killed else await self._cache.get()
        percentage = percentage_in_force(flag, self._host)
        epoch = flag.epoch if flag is not None and percentage > 0 else None
        return is_in(self._group, unit, percentage), epoch

    def _note(self, outcome: ArmOutcome) -> None:
        self._recorders.get().add(outcome)

    async def _record(self, outcomes: Sequence[ArmOutcome]) -> None:
        rule = self._rule
        report = await self._db.rollout.record(
            self._flag,
            outcomes,
            newest=rule.window_calls,
            max_age_seconds=rule.window_seconds,
            slow_ratio=rule.latency_ratio,
        )
        self._cache.put(report.flag)
        reason = should_roll_back(report.new, report.old, rule)
        if reason is not None and report.flag.rolled_back_at is None:
            await self._roll_back(report.flag.epoch, reason)

    async def _roll_back(self, epoch: int, reason: str) -> None:
        try:
            flag = await self._db.rollout.latch(self._flag, epoch, reason)
        except LLMCommonError as error:
            # Not raised: the outcomes are stored, and must not be stored again. The next ones come to the same end.
            _log.warning("rollout %s: should be rolled back (%s), which failed: %s", self._flag, reason, error)
            return
        if flag is None or flag.rolled_back_at is None:
            return
        self._cache.put(flag)
        _log.error("rollout %s: rolled back, everybody gets the old path: %s", self._flag, reason)
        if self._on_rollback is None:
            return
        try:
            waiting = self._on_rollback(RolledBack(self._flag, reason, flag.rolled_back_at))
            if inspect.isawaitable(waiting):
                await waiting
        except Exception:  # noqa: BLE001 (the host's function, in the background)
            _log.exception("rollout %s: on_rollback failed; the rollback stands", self._flag)
