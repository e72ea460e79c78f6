"""A second request beside one that takes long: whichever answers well first wins, the other is cancelled."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from llm_common._runtime.shielding import run_shielded

__all__ = ["first_answer"]

_log = logging.getLogger(__name__)

T = TypeVar("T")


async def first_answer(
    leading: Coroutine[Any, Any, T | None],
    hedge: Callable[[], Coroutine[Any, Any, T | None]],
    *,
    after: float,
    is_over: Callable[[], bool],
) -> T | None:
    """What `leading` gives, or `hedge()`, which begins where `leading` has given nothing for `after` seconds.

    Each gives None where it failed; then the other goes on alone, unless `is_over()` says so when it was `leading` that
    failed. None where both failed. However this ends, both have ended by then: what was in flight is cancelled and has
    written down what it may have cost.
    """
    first = asyncio.create_task(leading)
    legs = [first]
    try:
        await asyncio.wait(legs, timeout=after)
        if not first.done():
            legs.append(asyncio.create_task(hedge()))
        return await _winner(legs, is_over)
    finally:
        await run_shielded(_end(legs))


async def _winner(legs: "list[asyncio.Task[T | None]]", is_over: Callable[[], bool]) -> T | None:
    running = set(legs)
    while running:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        # In their order: of two that came together, the one that was asked first.
        for leg in (leg for leg in legs if leg in done):
            if (answer := leg.result()) is not None:
                return answer
        if legs[0].done() and is_over():
            return None
    return None


async def _end(legs: "list[asyncio.Task[T | None]]") -> None:
    left = [leg for leg in legs if not leg.done()]
    for leg in left:
        leg.cancel("another request answered first")
    await asyncio.wait(legs)
    for leg in legs:
        # What a leg raised before is its caller's by now; what it raises when it is no longer needed is nobody's.
        error = None if leg.cancelled() else leg.exception()
        if error is not None and leg in left:
            _log.error("a request that was not needed any more broke off", exc_info=error)
