"""Running one path of a rollout and noting how it went."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import TypeAlias, TypeVar

from llm_common._runtime.per_loop import PerLoop
from llm_common.db.functions.rollout import Arm, ArmOutcome
from llm_common.exceptions import BudgetExceededError, RunCancelledError
from llm_common.money import to_nano
from llm_common.rollout.recorder import OutcomeRecorder

__all__ = ["NOT_THE_PATHS_FAULT", "Arms", "Compare", "cost_usd_of"]

T = TypeVar("T")
#: `compare(old, new)` says whether two results agree, at once or when it is awaited.
Compare: TypeAlias = Callable[[T, T], bool | Awaitable[bool]]
_log = logging.getLogger("llm_common.rollout")

#: Somebody refused the call or called it off: that says nothing about the path, and must not be worked around.
NOT_THE_PATHS_FAULT = (BudgetExceededError, RunCancelledError)


def cost_usd_of(result: object) -> Decimal | None:
    """`result.cost_usd`, which a `Completion` and an `LLMError` have."""
    cost = getattr(result, "cost_usd", None)
    return cost if isinstance(cost, Decimal) else None


class Arms:
    """Calls, timed and priced. The loop's recorder takes each outcome at once, without waiting."""

    def __init__(
        self, flag: str, recorders: PerLoop[OutcomeRecorder], cost_of: Callable[[object], Decimal | None]
    ) -> None:
        self._flag = flag
        self._recorders = recorders
        self._cost_of = cost_of

    async def live(self, arm: Arm, call: Callable[[], Awaitable[T]], epoch: int | None) -> T:
        """The call's result or error, noted on the way; not noted without an epoch, nor when it is cancelled."""
        if epoch is None:
            return await call()
        began = time.monotonic()
        try:
            result = await call()
        except NOT_THE_PATHS_FAULT:
            raise
        except Exception as error:
            self._recorders.get().add(self._outcome(epoch, arm, began, error, ok=False))
            raise
        self._recorders.get().add(self._outcome(epoch, arm, began, result, ok=True))
        return result

    async def shadow(
        self,
        arm: Arm,
        call: Callable[[], Awaitable[T]],
        answered: T,
        compare: Compare[T] | None,
        epoch: int,
        timeout: float,
    ) -> None:
        """Run the path that did not answer, for its outcome and to compare. Raises nothing but cancellation."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                result = await call()
        except NOT_THE_PATHS_FAULT:
            return
        except Exception as error:  # noqa: BLE001 (it becomes an outcome; nobody waits for it)
            self._recorders.get().add(replace(self._outcome(epoch, arm, began, error, ok=False), shadow=True))
            return
        outcome = replace(self._outcome(epoch, arm, began, result, ok=True), shadow=True)
        old, new = (answered, result) if arm == "new" else (result, answered)
        try:
            async with asyncio.timeout(timeout):
                outcome = replace(outcome, compared=True, difference=await _difference(old, new, compare))
        except Exception as error:  # noqa: BLE001 (the host's comparison; nobody waits for it)
            _log.warning("rollout %s: two results cannot be compared (%s)", self._flag, type(error).__name__)
        self._recorders.get().add(outcome)

    def _outcome(self, epoch: int, arm: Arm, began: float, result: object, *, ok: bool) -> ArmOutcome:
        seconds = time.monotonic() - began
        return ArmOutcome(epoch=epoch, arm=arm, ok=ok, seconds=seconds, cost_nano=self._cost_nano(result))

    def _cost_nano(self, result: object) -> int | None:
        try:
            cost = self._cost_of(result)
            return None if cost is None else to_nano(cost)
        except Exception as error:  # noqa: BLE001 (the host's function, after a call that succeeded)
            _log.warning("rollout %s: the cost of a call cannot be read (%s)", self._flag, type(error).__name__)
            return None


async def _difference(old: T, new: T, compare: Compare[T] | None) -> str | None:
    agree = old == new if compare is None else compare(old, new)
    if isinstance(agree, Awaitable):
        agree = await agree
    return None if agree else f"{_digest(old)} != {_digest(new)}"


def _digest(result: object) -> str:
    return hashlib.sha256(repr(result).encode(errors="surrogatepass")).hexdigest()[:12]
