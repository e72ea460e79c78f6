"""`Rollout`: who gets the new path, and when it is taken back.

rollout = Rollout(db, "USE_NEW_LLM_FRAMEWORK", percentage=5)
answer = await rollout.run_or_fall_back(user_id, new=lambda: analyse(bill), old=lambda: analyse_as_before(bill))
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Self, TypeVar

from llm_common._runtime.per_loop import PerLoop
from llm_common.db.database import Database, DatabaseSource
from llm_common.db.functions.rollout import Arm, RolloutReport
from llm_common.exceptions import InvalidInputError
from llm_common.rollout.arms import NOT_THE_PATHS_FAULT, Arms, Compare, cost_usd_of
from llm_common.rollout.assignment import Unit, checked_percentage
from llm_common.rollout.constraints import Constraint, Context
from llm_common.rollout.decision import (
    Decision,
    Variant,
    checked_context,
    checked_variants,
    decide,
    pick_variant,
    unit_text,
)
from llm_common.rollout.environment import host_setting
from llm_common.rollout.flag_cache import FlagCache
from llm_common.rollout.guard import FlagStore, RolledBack, RolloutGuard
from llm_common.rollout.guardrail import Guardrail
from llm_common.rollout.local_flags import LocalFlags
from llm_common.rollout.recorder import OutcomeRecorder

__all__ = ["Rollout"]

T = TypeVar("T")
_log = logging.getLogger("llm_common.rollout")

_FLUSH_SECONDS = 5.0
_LONGEST_NAME = 200


class Rollout:
    """A percentage flag with shadow runs and a one-way rollback. Safe from many tasks and processes.

    Who decides, the strongest first:

    1. A switch that is off in the environment, or a value there that cannot be read: off, whatever else is said.
    2. A rollback: off in every process, until `reset`. `pause` likewise, until `resume`.
    3. `set_percentage`: what the database says.
    4. The environment: the first that is set of `USE_<FLAG>_PERCENTAGE`, `USE_<FLAG>`, `ENABLE_<FLAG>`,
       `<FLAG>_PERCENTAGE` and `<FLAG>`. A switch that is on means the percentage in code, or 100 without one.
    5. `percentage=` in code, else 0.

    For other names of the variables pass `switch_variable` and `percentage_variable`. The environment is read once;
    with `strict` a value that cannot be read is a `ConfigurationError` instead of a warning and "off".

    `Rollout("flag")` and `Rollout(None, "flag")` work without any database: what is set and recorded, and a rollback,
    then hold within the process, and one warning says so.

    `constraints` must all hold for a unit to be in at all; of those that are in, `variants` share by weight which new
    path each gets. A unit is in by Unleash's hash of `group` (the flag's name unless given) and unit: always the same
    answer, and a higher percentage only adds units. The flag is read every `ttl` seconds at most; while the database is
    down the last known state holds, and before it was ever reached everybody gets the old path.

    Outcomes are recorded in the background while the percentage is above 0, and judged by `guardrail`. On a rollback
    exactly one process logs it and calls `on_rollback` (sync or async). `cost_of` gives a result's (or error's) cost
    in dollars, None for unknown; the default reads its `cost_usd`.
    """

    def __init__(
        self,
        db: "DatabaseSource | None",
        flag: str | None = None,
        *,
        percentage: int | None = None,
        group: str | None = None,
        switch_variable: str | None = None,
        percentage_variable: str | None = None,
        environ: Mapping[str, str] | None = None,
        strict: bool = False,
        constraints: Sequence[Constraint] = (),
        variants: Sequence[Variant] = (),
        guardrail: Guardrail | None = None,
        ttl: float = 5.0,
        max_shadows: int = 10,
        shadow_timeout: float = 60.0,
        cost_of: Callable[[object], Decimal | None] = cost_usd_of,
        on_rollback: Callable[[RolledBack], Awaitable[None] | None] | None = None,
    ) -> None:
        if flag is None and isinstance(db, str):
            db, flag = None, db
        flag = _checked_name(flag)
        self._flag = flag
        self._group = group or flag
        self._host = host_setting(
            flag,
            percentage,
            os.environ if environ is None else environ,
            switch_variable=switch_variable,
            percentage_variable=percentage_variable,
            strict=strict,
        )
        self._constraints = tuple(constraints)
        self._variants = checked_variants(variants)
        self._max_shadows = max_shadows
        self._shadow_timeout = shadow_timeout
        self._db = None if db is None else Database.of(db)
        self._opened_here = self._db is not db
        self._store: FlagStore = LocalFlags() if self._db is None else self._db.rollout
        if self._db is None:
            _log.warning("rollout %s has no database: its percentage and guardrails hold within this process", flag)
        self._cache = FlagCache(flag, partial(self._store.get, flag), ttl)
        self._guard = RolloutGuard(flag, self._store, self._cache, guardrail or Guardrail(), on_rollback)
        self._recorders = PerLoop(lambda: OutcomeRecorder(self._guard, pause=ttl))
        self._arms = Arms(flag, self._recorders, cost_of)
        self._shadows: PerLoop[set[asyncio.Task[None]]] = PerLoop(set)

    async def enabled(self, unit: Unit, context: Context | None = None) -> bool:
        """Whether this unit gets the new path. None and "" never do. Raises nothing of the database's.

        `context` is what the `constraints` ask for; without one, only those hold that hold for nobody known.
        """
        return (await self._decision(unit, context))[0].is_in

    async def variant(self, unit: Unit, context: Context | None = None) -> str | None:
        """The name of this unit's variant; None for who gets the old path, and where there are no variants."""
        decision, _ = await self._decision(unit, context)
        return pick_variant(self._variants, self._group, unit_text(unit)) if decision.is_in and self._variants else None

    async def explain(self, unit: Unit, context: Context | None = None) -> str:
        """Which path this unit gets, and why, in one sentence."""
        return (await self._decision(unit, context))[0].sentence(self._flag, unit_text(unit))

    async def percentage(self) -> int:
        """The percentage in force now; 0 while rolled back, paused, killed or unknown."""
        flag = None if self._host.killed else await self._cache.get()
        return decide(flag, self._host, self._group, "").percentage

    async def run(
        self,
        unit: Unit,
        new: Callable[[], Awaitable[T]],
        old: Callable[[], Awaitable[T]],
        context: Context | None = None,
    ) -> T:
        """Run the path that is this unit's, and record how it went. Its errors pass through."""
        decision, epoch = await self._decision(unit, context)
        return await (self._arms.live("new", new, epoch) if decision.is_in else self._arms.live("old", old, epoch))

    async def run_or_fall_back(
        self,
        unit: Unit,
        new: Callable[[], Awaitable[T]],
        old: Callable[[], Awaitable[T]],
        context: Context | None = None,
    ) -> T:
        """Like `run`, but where the new path fails the old one answers.

        Not after `BudgetExceededError` or `RunCancelledError`: the old path would do what was refused.
        """
        decision, epoch = await self._decision(unit, context)
        if not decision.is_in:
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
        compare: Compare[T] | None = None,
        context: Context | None = None,
    ) -> T:
        """Answer with the old path; for units that are in, run the new one afterwards, in the background.

        Nothing that happens to the new path reaches the caller. It has `shadow_timeout` seconds, and is left out
        while `max_shadows` are running. Both results are compared (`compare(old, new)` says whether they agree,
        default `==`); of a difference only digests of the two are recorded.
        """
        decision, epoch = await self._decision(unit, context)
        result = await self._arms.live("old", old, epoch)
        if decision.is_in and epoch is not None:
            self._run_beside("new", new, result, compare, epoch)
        return result

    async def verify(
        self,
        unit: Unit,
        new: Callable[[], Awaitable[T]],
        old: Callable[[], Awaitable[T]],
        compare: Compare[T] | None = None,
        context: Context | None = None,
    ) -> T:
        """Like `run_or_fall_back`; for units that are in, the old path runs too, to be compared with the new one.

        Where the new path answers, the old one runs afterwards, in the background, under the limits of `shadow`. Where
        it fails, the old one answers, and is never run twice.
        """
        decision, epoch = await self._decision(unit, context)
        if not decision.is_in:
            return await self._arms.live("old", old, epoch)
        try:
            result = await self._arms.live("new", new, epoch)
        except NOT_THE_PATHS_FAULT:
            raise
        except Exception as error:  # noqa: BLE001 (whatever the new path raises, the old one is there for it)
            _log.warning("rollout %s: the new path failed (%s), the old one answers", self._flag, type(error).__name__)
            return await old()
        if epoch is not None:
            self._run_beside("old", old, result, compare, epoch)
        return result

    def _run_beside(
        self, arm: Arm, call: Callable[[], Awaitable[T]], answered: T, compare: Compare[T] | None, epoch: int
    ) -> None:
        shadows = self._shadows.get()
        if len(shadows) < self._max_shadows:
            run = self._arms.shadow(arm, call, answered, compare, epoch, self._shadow_timeout)
            task = asyncio.create_task(run, name=f"rollout {self._flag}: shadow")
            shadows.add(task)
            task.add_done_callback(shadows.discard)

    async def set_percentage(self, percentage: int | None) -> None:
        """Give the new path to so many percent (0 to 100), in all processes; None: as environment and code say."""
        share = None if percentage is None else checked_percentage(percentage)
        self._cache.put(await self._store.set_percentage(self._flag, share))

    async def pause(self) -> None:
        """Everybody gets the old path until `resume`; the percentage is kept."""
        self._cache.put(await self._store.set_enabled(self._flag, enabled=False))

    async def resume(self) -> None:
        """Undo `pause`. A rollback stays."""
        self._cache.put(await self._store.set_enabled(self._flag, enabled=True))

    async def reset(self, percentage: int | None) -> None:
        """Undo a rollback, once its reason is mended, and begin again at so many percent (None: as the host says).

        What was recorded before no longer counts.
        """
        share = None if percentage is None else checked_percentage(percentage)
        self._cache.put(await self._store.reset(self._flag, share))

    async def report(self) -> RolloutReport:
        """The flag as the database has it, and both paths' figures in the guardrail's window."""
        return await self._guard.report()

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
        if self._db is not None and self._opened_here:
            await self._db.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _decision(self, unit: Unit, context: Context | None) -> tuple[Decision, int | None]:
        """The decision, and the epoch of its outcome (None while nobody is in: nothing to compare)."""
        flag = None if self._host.killed else await self._cache.get()
        known = checked_context(context)
        decision = decide(flag, self._host, self._group, unit_text(unit), self._constraints, known)
        return decision, flag.epoch if flag is not None and decision.percentage > 0 else None


def _checked_name(flag: str | None) -> str:
    if not flag or not flag.strip() or len(flag) > _LONGEST_NAME or "://" in flag or not flag.isprintable():
        raise InvalidInputError(f"a flag needs a name such as USE_NEW_LLM_FRAMEWORK, not {flag!r:.60}")
    return flag
