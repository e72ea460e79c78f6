"""The leases that this process holds: prolonged together, and each lost for itself."""

import asyncio
import logging
import os
import platform
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar
from uuid import uuid4

from llm_common._runtime.shielding import run_shielded
from llm_common.db.database import Database
from llm_common.db.functions.runs import Lease, LeaseState
from llm_common.exceptions import RunCancelledError, RunFencedError

__all__ = ["LeaseKeeper", "fenced", "go_on", "worker_name"]

_log = logging.getLogger(__name__)
T = TypeVar("T")

#: A lease is prolonged so many times before it would end, so that one lost answer does no harm.
_BEATS_PER_LEASE: Final = 4


def worker_name() -> str:
    """Unique for each time that somebody takes up a run, or begins to work on the queue."""
    return f"{platform.node()}:{os.getpid()}:{uuid4().hex[:8]}"


class _Held:
    """A lease in use. `lost` gets the error as its result when the work must stop."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._held_at = time.monotonic()

    def prolonged(self, state: LeaseState) -> None:
        try:
            go_on(state, self.lease)
        except (RunCancelledError, RunFencedError) as error:
            self._lose(error)
        self._held_at = time.monotonic()

    def not_prolonged(self, error: Exception) -> None:
        if time.monotonic() - self._held_at > self.lease.seconds:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        if not self.lost.done():
            self.lost.set_result(error)


class LeaseKeeper:
    """Prolongs all leases that are held on one event loop, in one call each time, as long as there are any.

    `seconds`: how long a lease is good for without a sign of life, the same for all.
    """

    def __init__(self, db: Database, seconds: float) -> None:
        self._db, self._seconds = db, seconds
        self._held: dict[str, _Held] = {}
        self._beating: asyncio.Task[None] | None = None

    async def while_held(self, lease: Lease, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` and prolong the lease meanwhile; stop it as soon as it is lost or the run shall be cancelled.

        Raises what `work` raises, `RunFencedError`, `RunCancelledError`, or `DatabaseError` when the lease ended before
        the database could be reached again.
        """
        held = _Held(lease)
        self._hold(held)
        working = asyncio.ensure_future(work)
        try:
            await asyncio.wait({working, held.lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            working.cancel()
            # A call under way is settled before anybody else may write to the run.
            await run_shielded(asyncio.wait({working}))
            await self._let_go(held)
        if held.lost.done() and working.cancelled():
            raise held.lost.result()
        return working.result()

    def _hold(self, held: _Held) -> None:
        before = self._held.get(held.lease.run_id)
        if before is not None:
            before.prolonged("fenced")  # taken over by this process itself
        self._held[held.lease.run_id] = held
        if self._beating is None or self._beating.done():
            self._beating = asyncio.ensure_future(self._beat())

    async def _let_go(self, held: _Held) -> None:
        if self._held.get(held.lease.run_id) is held:
            del self._held[held.lease.run_id]
        beating = self._beating
        if not self._held and beating is not None:
            # Waited for, because it may be in the middle of a statement: its connection is closed before the loop is.
            self._beating = None
            beating.cancel()
            await run_shielded(asyncio.wait({beating}))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / _BEATS_PER_LEASE)
            # Which ones, before waiting for anything: others come and go meanwhile.
            held = tuple(self._held.values())
            try:
                states = await self._db.queue.renew([one.lease for one in held])
            except Exception as error:  # noqa: BLE001 (whatever it is, no run goes on long without its lease)
                _log.warning("%d leases were not prolonged, trying again: %s", len(held), error)
                for one in held:
                    one.not_prolonged(error)
            else:
                for one in held:
                    one.prolonged(states[one.lease.run_id])


def fenced(lease: Lease) -> RunFencedError:
    return RunFencedError(
        f"run {lease.run_id} was taken over by another worker, so {lease.worker} stops; the result is the other's",
        run_id=lease.run_id,
    )


def go_on(state: LeaseState, lease: Lease) -> None:
    """Raises what the state of the lease means for its worker."""
    if state == "fenced":
        raise fenced(lease)
    if state == "cancelled":
        raise RunCancelledError(
            f"run {lease.run_id} was cancelled; what it finished is kept, and resume goes on from there",
            run_id=lease.run_id,
        )
