"""Finish what must not be left half done, although the task is cancelled."""

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

__all__ = ["pause", "run_shielded"]

T = TypeVar("T")

#: Of the shielded work that runs here: set once somebody wants it to be over.
_hurry: ContextVar[asyncio.Event | None] = ContextVar("llm_common_hurry", default=None)


async def run_shielded(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end; a cancellation that comes meanwhile is raised right after it.

    For the moments where money or a checkpoint hangs on one more round trip. `asyncio.shield` alone would let
    the caller go on, and the loop's shutdown would cancel the rest. Work that tries again and again uses `pause`.
    """
    hurry = _hurry.get() or asyncio.Event()
    token = _hurry.set(hurry)
    task = asyncio.ensure_future(work)
    _hurry.reset(token)
    cancellation: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancellation = error
            hurry.set()
    if cancellation is not None:
        raise cancellation from None if task.cancelled() else task.exception()
    return task.result()


async def pause(seconds: float) -> bool:
    """Sleep; True, and at once, where the shielded work that sleeps has been cancelled and is to be over soon."""
    hurry = _hurry.get()
    if hurry is None:
        await asyncio.sleep(seconds)
        return False
    try:
        async with asyncio.timeout(seconds):
            await hurry.wait()
    except TimeoutError:
        return False
    return True
