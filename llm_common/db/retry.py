"""Work of the database that may be done again: it was away, or undid the transaction itself."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from llm_common.exceptions import DatabaseError, DatabaseUnavailableError

__all__ = ["again"]

T = TypeVar("T")

#: serialization_failure and deadlock_detected: the transaction was undone, and may be tried again.
_UNDONE = frozenset({"40001", "40P01"})


async def again(work: Callable[[], Awaitable[T]], *, waits: Sequence[float]) -> T:
    """Try once more after each wait (seconds). `work` must be repeatable."""
    for wait in waits:
        try:
            return await work()
        except DatabaseError as error:
            if not (isinstance(error, DatabaseUnavailableError) or error.sqlstate in _UNDONE):
                raise
            await asyncio.sleep(wait)
    return await work()
