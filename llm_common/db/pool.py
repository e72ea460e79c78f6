"""Connections kept open for one event loop.

psycopg_pool retries in the background and lets its callers wait when a server is down; a call of ours must
fail at once instead, because a failed cache or ledger is answered in ways that depend on it. So connections are
made by those who need them, and there are no background tasks that outlive a loop.
"""

import asyncio
import select
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from llm_common._runtime.fork import after_fork_in_child, cut_off
from llm_common.exceptions import DatabaseUnavailableError

__all__ = ["MAX_CONNECTIONS", "Pool"]

MAX_CONNECTIONS = 10
_WAIT_SECONDS = 30.0
_IDLE_SECONDS = 300.0


class Pool:
    """Lends at most `MAX_CONNECTIONS` connections; the one used last is lent first, so that the others may go."""

    def __init__(self, connect: Callable[[], Awaitable[AsyncConnection[TupleRow]]]) -> None:
        self._connect = connect
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._idle: deque[tuple[float, AsyncConnection[TupleRow]]] = deque()
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[AsyncConnection[TupleRow]]:
        """A connection that is known to be open. Raises `DatabaseUnavailableError` where there is none to have."""
        await self._acquire_slot()
        try:
            connection = await self._idle_connection() or await self._open()
            try:
                yield connection
                if connection.info.transaction_status is TransactionStatus.INTRANS:
                    await connection.commit()
            finally:
                await self._give_back(connection)
        finally:
            self._slots.release()

    async def aclose(self) -> None:
        """Close what is idle now, and what is lent when it comes back."""
        self._closed = True
        while self._idle:
            await self._idle.pop()[1].close()

    async def _open(self) -> AsyncConnection[TupleRow]:
        connection = await self._connect()
        after_fork_in_child(connection, _cut_off)
        return connection

    async def _acquire_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()  # at once: a timer would cost more than the rest of the lending
            return
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise DatabaseUnavailableError(
                f"all {MAX_CONNECTIONS} connections were busy for {_WAIT_SECONDS:.0f} s; the server is overloaded, "
                "or something holds a lock"
            ) from None

    async def _idle_connection(self) -> AsyncConnection[TupleRow] | None:
        while self._idle:
            _, connection = self._idle.pop()
            if _is_silent(connection):
                return connection
            await connection.close()
        return None

    async def _give_back(self, connection: AsyncConnection[TupleRow]) -> None:
        # None of these closings waits for anything, so a cancelled task completes them too.
        if self._closed or connection.info.transaction_status is not TransactionStatus.IDLE:
            await connection.close()
            return
        now = time.monotonic()
        self._idle.append((now, connection))
        while self._idle[0][0] < now - _IDLE_SECONDS:
            await self._idle.popleft()[1].close()


def _cut_off(inherited: AsyncConnection[TupleRow]) -> None:
    if not inherited.closed:
        cut_off(inherited.fileno())


def _is_silent(connection: AsyncConnection[TupleRow]) -> bool:
    """Whether nothing has arrived since it was idle: a server that goes away says so, or closes."""
    if connection.closed:
        return False
    if sys.platform == "win32":
        return not select.select([connection.fileno()], [], [], 0)[0]
    arrived = select.poll()
    arrived.register(connection.fileno(), select.POLLIN)
    return not arrived.poll(0)
