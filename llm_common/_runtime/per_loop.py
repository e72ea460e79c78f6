"""One resource per event loop, closed with its loop whether or not the host remembers to.

Sessions, pools and locks belong to the loop they were made on; a host that calls `asyncio.run` twice, or
from several threads, would otherwise meet "Event loop is closed".
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from llm_common._runtime.fork import after_fork_in_child, fork_safe_lock, keep_for_ever

__all__ = ["PerLoop"]

T = TypeVar("T")


class PerLoop(Generic[T]):
    """`get()` gives the running loop's resource and makes it first where there is none.

    A host that calls `asyncio.run` for each request never closes anything. So a resource with a `close` is tied to an
    async generator of its loop: `asyncio.run` (and every other runner) closes those before it closes the loop. A
    forked child begins with nothing, and leaves the parent's resources alone.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[object]] | None = None) -> None:
        self._make, self._close = make, close
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Entry[T]] = WeakKeyDictionary()
        # Several threads, each with a loop of its own, may come at the same time.
        self._guard = fork_safe_lock()
        after_fork_in_child(self, PerLoop[T].begin_anew)

    def get(self) -> T:
        loop = asyncio.get_running_loop()
        entry = self._by_loop.get(loop)
        if entry is None:
            self._forget_closed_loops()
            entry = _Entry(self._make())
            with self._guard:
                self._by_loop[loop] = entry
            if self._close is not None:
                entry.keeper = self._until_the_loop_ends(loop, entry)
                _run_to_first_yield(entry.keeper)
        return entry.resource

    def held(self) -> T | None:
        """The running loop's resource; None where there is none."""
        entry = self._by_loop.get(asyncio.get_running_loop())
        return None if entry is None else entry.resource

    def pop(self) -> T | None:
        """Like `held`; it is the caller's to close now, and the next `get` makes another."""
        entry = self._pop(asyncio.get_running_loop())
        return None if entry is None else entry.resource

    async def aclose(self) -> None:
        """Close the running loop's resource. The next `get` makes another."""
        entry = self._pop(asyncio.get_running_loop())
        if entry is None or self._close is None:
            return
        try:
            await self._close(entry.resource)
        finally:
            if entry.keeper is not None:
                await entry.keeper.aclose()

    def begin_anew(self) -> None:
        """Leave what there is to the parent process, for good."""
        keep_for_ever(list(self._by_loop.items()))
        self._by_loop = WeakKeyDictionary()

    async def _until_the_loop_ends(self, loop: asyncio.AbstractEventLoop, entry: "_Entry[T]") -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if self._by_loop.get(loop) is entry and self._close is not None:
                self._pop(loop)
                await self._close(entry.resource)

    def _pop(self, loop: asyncio.AbstractEventLoop) -> "_Entry[T] | None":
        with self._guard:
            return self._by_loop.pop(loop, None)

    def _forget_closed_loops(self) -> None:
        """Lets go of what belongs to loops that were closed by hand: it may hold its loop, and would stay for ever."""
        with self._guard:
            closed = [self._by_loop.pop(loop) for loop in list(self._by_loop) if loop.is_closed()]
        if self._close is not None:
            for entry in closed:
                _run_without_loop(self._close(entry.resource))


class _Entry(Generic[T]):
    __slots__ = ("keeper", "resource")

    def __init__(self, resource: T) -> None:
        self.resource = resource
        self.keeper: AsyncGenerator[None] | None = None


def _run_to_first_yield(generator: AsyncGenerator[None]) -> None:
    """Without giving way: the generator waits for nothing, and no second task can come between."""
    with suppress(StopIteration):
        generator.__anext__().__await__().__next__()


def _run_without_loop(closing: Awaitable[object]) -> None:
    """Closes what has nothing to wait for any more, because its loop is closed; what waits all the same is left."""
    steps = closing.__await__()
    with suppress(StopIteration, RuntimeError):  # "Event loop is closed"
        next(steps)
