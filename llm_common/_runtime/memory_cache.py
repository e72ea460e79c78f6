"""The first tier of a cache: answers of this process, bounded in entries and bytes, least recently used out first."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from llm_common._runtime.fork import fork_safe_lock

__all__ = ["MemoryCache", "Sized"]


class Sized(Protocol):
    """What can be held: it knows about how many bytes it takes."""

    @property
    def size(self) -> int: ...


EntryT = TypeVar("EntryT", bound=Sized)


class MemoryCache(Generic[EntryT]):
    """Safe from several threads. `clock` is monotonic, in seconds.

    `put` takes the `generation` that was read before the answer was asked for, so that an answer from before an
    invalidation is not kept after it.
    """

    def __init__(
        self, *, max_entries: int = 10_000, max_bytes: int = 64 * 2**20, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, int, EntryT]] = OrderedDict()
        self._bytes = 0
        self._generation = 0
        self._guard = fork_safe_lock()

    @property
    def generation(self) -> int:
        """Grows with every invalidation."""
        return self._generation

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        return self._bytes

    def get(self, key: str) -> EntryT | None:
        with self._guard:
            held = self._entries.get(key)
            if held is None:
                return None
            if held[0] <= self._clock():
                self._drop(key)
                return None
            self._entries.move_to_end(key)
            return held[2]

    def put(self, key: str, entry: EntryT, *, ttl: float, generation: int) -> None:
        """Keep an answer for `ttl` seconds; one that is larger than the whole cache is not kept."""
        size = entry.size
        with self._guard:
            if ttl <= 0 or size > self._max_bytes or generation != self._generation:
                return
            self._drop(key)
            self._entries[key] = (self._clock() + ttl, size, entry)
            self._bytes += size
            while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
                self._drop(next(iter(self._entries)))

    def invalidate(self, matches: Callable[[EntryT], bool]) -> int:
        """Forget the entries that match; gives their number."""
        with self._guard:
            self._generation += 1
            doomed = [key for key, (_, _, entry) in self._entries.items() if matches(entry)]
            for key in doomed:
                self._drop(key)
            return len(doomed)

    def _drop(self, key: str) -> None:
        held = self._entries.pop(key, None)
        if held is not None:
            self._bytes -= held[1]
