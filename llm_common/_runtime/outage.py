"""A dependency that may be down without taking its users along: bounded waits, a pause, one log line per outage."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from llm_common._runtime.fork import fork_safe_lock
from llm_common.exceptions import DatabaseError, DatabaseUnavailableError, LLMCommonError

__all__ = ["Outage"]

_log = logging.getLogger(__name__)

T = TypeVar("T")

_LAST_TIMES = 5


class Outage:
    """Calls go through `call`. After a failure nobody asks for `pause` seconds; then one call tries again.

    `patience` bounds one call, in seconds; the last one has five times as much. `what` is the subject of the log line:
    "the search cache in Postgres". `instead` says what happens meanwhile.
    """

    def __init__(
        self,
        what: str,
        instead: str,
        *,
        patience: float = 2.0,
        pause: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._instead = instead
        self._patience = patience
        self._pause = pause
        self._clock = clock
        self._down_until: float | None = None
        self._guard = fork_safe_lock()
        self._left_behind: set[asyncio.Task[Any]] = set()

    @property
    def is_down(self) -> bool:
        """Whether the last call failed."""
        return self._down_until is not None

    async def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `make()` gives. Raises its `DatabaseError`, or `DatabaseUnavailableError` for slow or paused."""
        self._admit()
        return await self._asked(make, self._patience)

    async def last_call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Like `call`, for who will not come again: it also asks what failed a moment ago, and waits longer."""
        return await self._asked(make, _LAST_TIMES * self._patience)

    async def _asked(self, make: Callable[[], Coroutine[Any, Any, T]], patience: float) -> T:
        try:
            result = await self._bounded(make(), patience)
        except DatabaseError as error:
            self._failed(error)
            raise
        except LLMCommonError:
            # A refusal is an answer: the database works.
            self._worked()
            raise
        self._worked()
        return result

    def _admit(self) -> None:
        with self._guard:
            if self._down_until is None:
                return
            if self._clock() < self._down_until:
                raise DatabaseUnavailableError(f"{self._what} failed a moment ago, and is not asked again yet")
            # This call tries; the others keep off until it has an answer.
            self._down_until = self._clock() + max(self._pause, self._patience)

    async def _bounded(self, work: Coroutine[Any, Any, T], patience: float) -> T:
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=patience)
        except asyncio.CancelledError:
            self._leave(task)
            raise
        if not done:
            self._leave(task)
            raise DatabaseUnavailableError(f"{self._what} gave no answer within {patience:g} s")
        return task.result()

    def _leave(self, task: asyncio.Task[Any]) -> None:
        """Cancel without waiting: a driver may need long to give up on a server that hangs."""
        task.cancel()
        self._left_behind.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[Any]) -> None:
        self._left_behind.discard(task)
        if not task.cancelled():
            # Its caller has left; the failure was counted when it did.
            task.exception()

    def _failed(self, error: DatabaseError) -> None:
        with self._guard:
            first, self._down_until = self._down_until is None, self._clock() + self._pause
        if first:
            _log.warning("%s fails; %s until it is back: %s", self._what, self._instead, error)

    def _worked(self) -> None:
        with self._guard:
            was_down, self._down_until = self._down_until is not None, None
        if was_down:
            _log.info("%s is back", self._what)
