"""Outcomes on their way to the database, off the caller's path."""

import asyncio
import logging
import time
from collections import deque

from llm_common.db.functions.rollout import ArmOutcome
from llm_common.exceptions import LLMCommonError
from llm_common.rollout.guard import RolloutGuard

__all__ = ["OutcomeRecorder"]

_log = logging.getLogger("llm_common.rollout")

_BATCH = 100
#: Figures for a guardrail age fast: of an outage's outcomes only the latest are kept.
_MOST_PENDING = 1_000


class OutcomeRecorder:
    """One writer at a time takes what has gathered, a batch per round trip. Belongs to one event loop.

    After a failure it pauses for `pause` seconds, and what it could not write is kept for the next attempt.
    """

    def __init__(self, guard: RolloutGuard, pause: float) -> None:
        self._guard = guard
        self._name = guard.flag
        self._pause = pause
        self._pending: deque[ArmOutcome] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._paused_until = 0.0
        self._down = False

    def add(self, outcome: ArmOutcome) -> None:
        if len(self._pending) >= _MOST_PENDING:
            self._pending.popleft()
        self._pending.append(outcome)
        if time.monotonic() >= self._paused_until:
            self._start_writing()

    async def flush(self, timeout: float) -> None:
        """Write what is pending, within so many seconds; what then is left stays pending."""
        if self._pending or (self._writer is not None and not self._writer.done()):
            await asyncio.wait({self._start_writing()}, timeout=timeout)

    async def aclose(self, timeout: float) -> None:
        await self.flush(timeout)
        if self._writer is not None and not self._writer.done():
            self._writer.cancel()
            await asyncio.wait({self._writer})
        if self._pending:
            _log.warning("rollout %s: %d outcomes were never recorded", self._name, len(self._pending))

    def _start_writing(self) -> asyncio.Task[None]:
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_pending(), name=f"rollout {self._name}: record outcomes")
            self._writer.add_done_callback(self._forget_writer)
        return self._writer

    def _forget_writer(self, writer: asyncio.Task[None]) -> None:
        # A task keeps its event loop alive, and with it everything that is kept per loop.
        if self._writer is writer:
            self._writer = None

    async def _write_pending(self) -> None:
        while self._pending:
            batch = [self._pending.popleft() for _ in range(min(_BATCH, len(self._pending)))]
            try:
                await self._guard.record(batch)
            except LLMCommonError as error:
                room = _MOST_PENDING - len(self._pending)
                self._pending.extendleft(reversed(batch[-room:] if room else ()))
                self._failed(error)
                return
            self._down = False

    def _failed(self, error: LLMCommonError) -> None:
        self._paused_until = time.monotonic() + self._pause
        if not self._down:
            self._down = True
            _log.warning(
                "rollout %s: outcomes cannot be recorded, so the guardrail is blind for now (%s)", self._name, error
            )
