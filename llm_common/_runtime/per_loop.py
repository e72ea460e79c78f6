"""One resource per event loop.

Sessions, pools and locks belong to the loop they were made on; a host that calls `asyncio.run` twice, or
from several threads, would otherwise meet "Event loop is closed".
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class PerLoop(Generic[T]):
    """`get()` gives the running loop's resource and makes it first where there is none."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()
        # Several threads, each with a loop of its own, may come at the same time.
        self._guard = threading.Lock()

    def get(self) -> T:
        loop = asyncio.get_running_loop()
        with self._guard:
            resource = self._by_loop.get(loop)
            if resource is None:
                self._forget_closed_loops()
                resource = self._by_loop[loop] = self._make()
            return resource

    def pop(self) -> T | None:
        """The running loop's resource, to be closed by the caller; None where there is none."""
        with self._guard:
            return self._by_loop.pop(asyncio.get_running_loop(), None)

    def _forget_closed_loops(self) -> None:
        # A resource may hold its loop, and then neither would ever be collected.
        for loop in [loop for loop in self._by_loop if loop.is_closed()]:
            del self._by_loop[loop]
