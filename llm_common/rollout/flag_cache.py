"""A flag as this process last saw it.

A flag must never break or slow its host: it is read at most once per `ttl`, by one task for all callers, and where
the database does not answer the last known flag holds.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from llm_common.db.functions.rollout import RolloutFlag
from llm_common.exceptions import DatabaseUnavailableError, LLMCommonError

__all__ = ["FlagCache"]

_log = logging.getLogger("llm_common.rollout")

#: How long callers wait for the database before they go on with what is known. In seconds, like the next.
_PATIENCE = 2.0
_READ_TIMEOUT = 15.0


class FlagCache:
    """`await get()` gives the flag, None while it was never read. `ttl` is in seconds."""

    def __init__(self, name: str, read: Callable[[], Awaitable[RolloutFlag]], ttl: float) -> None:
        self._name = name
        self._read = read
        self._ttl = ttl
        self._flag: RolloutFlag | None = None
        self._read_again_at = 0.0
        self._down = False
        self._reading: asyncio.Task[None] | None = None

    async def get(self) -> RolloutFlag | None:
        if time.monotonic() < self._read_again_at:
            return self._flag
        reading = self._start_reading()
        # While the database is known to be down nobody waits for it; the task finds out when it is back.
        if not self._down:
            await asyncio.wait({reading}, timeout=_PATIENCE)
            if not reading.done():
                self._failed(DatabaseUnavailableError(f"no answer within {_PATIENCE:.0f} s"))
        return self._flag

    def put(self, flag: RolloutFlag) -> None:
        """Take over what the database said just now; an answer that was overtaken by a newer one is ignored."""
        if self._flag is None or flag.version >= self._flag.version:
            self._flag = flag
        self._read_again_at = time.monotonic() + self._ttl
        if self._down:
            self._down = False
            _log.info("rollout %s: the database answers again", self._name)

    async def aclose(self) -> None:
        """Stop reading, if this event loop is."""
        reading = self._reading
        if reading is not None and reading.get_loop() is asyncio.get_running_loop():
            reading.cancel()
            await asyncio.wait({reading})

    def _start_reading(self) -> asyncio.Task[None]:
        # A task of its own, so that a caller who is cancelled does not cancel the others' wait.
        reading = self._reading
        if reading is None or reading.done() or reading.get_loop() is not asyncio.get_running_loop():
            reading = self._reading = asyncio.create_task(
                self._read_once(), name=f"rollout {self._name}: read the flag"
            )
        return reading

    async def _read_once(self) -> None:
        try:
            async with asyncio.timeout(_READ_TIMEOUT):
                self.put(await self._read())
        except (LLMCommonError, TimeoutError) as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._read_again_at = time.monotonic() + self._ttl
        if not self._down:
            self._down = True
            known = "its last known state holds" if self._flag else "everybody gets the old path"
            _log.warning("rollout %s: the flag cannot be read, so %s (%s)", self._name, known, error)
