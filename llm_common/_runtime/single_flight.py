"""However many tasks of one event loop ask for the same thing at once, it is fetched once."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from llm_common._runtime.per_loop import PerLoop

__all__ = ["SingleFlight"]

T = TypeVar("T")

_GRACE_SECONDS = 5.0


@dataclass(slots=True)
class _Airspace(Generic[T]):
    joinable: dict[str, asyncio.Task[T]] = field(default_factory=dict[str, asyncio.Task[T]])
    flying: set[asyncio.Task[T]] = field(default_factory=set[asyncio.Task[T]])
    waiting: Counter[asyncio.Task[T]] = field(default_factory=Counter[asyncio.Task[T]])


class SingleFlight(Generic[T]):
    """The fetch is a task of its own, so that a caller who is cancelled takes nobody along.

    `cut_off` makes the error for those whose flight was cancelled by `aclose`.
    """

    def __init__(self, cut_off: Callable[[], Exception]) -> None:
        self._cut_off = cut_off
        self._by_loop: PerLoop[_Airspace[T]] = PerLoop(_Airspace[T])

    async def run(self, key: str, fetch: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Join the flight to `key`, or start it. Raises what the fetch raised, to every caller.

        It goes on when all its callers have left: what was sent is paid for, so its answer is kept.
        """
        return await self._landing(self.under_way(key) or self.launch(key, fetch))

    async def run_while_wanted(self, key: str, fetch: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Like `run`, but when the last caller leaves, the fetch is cancelled; that caller leaves when it has ended."""
        here = self._by_loop.get()
        flight = self.under_way(key) or self.launch(key, fetch)
        here.waiting[flight] += 1
        try:
            return await self._landing(flight)
        finally:
            here.waiting[flight] -= 1
            if not here.waiting[flight]:
                del here.waiting[flight]
                await self._abandon(here, key, flight)

    async def _landing(self, flight: asyncio.Task[T]) -> T:
        try:
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            if flight.cancelled() and not _caller_is_cancelled():
                raise self._cut_off() from None
            raise

    async def _abandon(self, here: _Airspace[T], key: str, flight: asyncio.Task[T]) -> None:
        if flight.done():
            return
        if here.joinable.get(key) is flight:
            del here.joinable[key]  # who comes now must not join what is being given up
        flight.cancel()
        await asyncio.wait({flight})

    def under_way(self, key: str) -> asyncio.Task[T] | None:
        return self._by_loop.get().joinable.get(key)

    def launch(self, key: str, fetch: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Start a flight that others may join."""
        here = self._by_loop.get()
        flight = asyncio.create_task(fetch())
        here.joinable[key] = flight
        here.flying.add(flight)

        def landed(task: asyncio.Task[T]) -> None:
            here.flying.discard(task)
            if here.joinable.get(key) is task:
                del here.joinable[key]
            if not task.cancelled():
                # All callers may be gone; their absence must not turn into "exception was never retrieved".
                task.exception()

        flight.add_done_callback(landed)
        return flight

    def forget(self) -> None:
        """Let later callers fetch anew; those who wait already get what is under way."""
        self._by_loop.get().joinable.clear()

    async def aclose(self) -> None:
        """Let what is under way on the running loop land, for a few seconds; cancel the rest."""
        here = self._by_loop.pop()
        if here is None or not here.flying:
            return
        _, late = await asyncio.wait(here.flying, timeout=_GRACE_SECONDS)
        for flight in late:
            flight.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def _caller_is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
