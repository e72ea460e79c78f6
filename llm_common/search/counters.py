"""What the cache did, counted in memory and handed over in batches, so that counting is no hot row."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Literal

from llm_common._runtime.fork import fork_safe_lock

__all__ = ["CounterBatch", "Counters", "Figure", "summary"]

Figure = Literal[
    "memory_hits",
    "db_hits",
    "stale_hits",
    "coalesced",
    "misses",
    "errors",
    "upstream_requests",
    "skipped_items",
    "spent_nano",
    "saved_nano",
]
_HITS: tuple[Figure, ...] = ("memory_hits", "db_hits", "stale_hits", "coalesced")
_SEARCHES: tuple[Figure, ...] = (*_HITS, "misses", "errors")
_FIGURES: tuple[Figure, ...] = (*_SEARCHES, "upstream_requests", "skipped_items", "spent_nano", "saved_nano")
#: Beyond this many distinct keys in one batch (the database is down for long), per-entry counts are let go.
_MAX_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class CounterBatch:
    """Counts since the last hand-over: figures by UTC day, and hits by cache key."""

    days: Mapping[date, Mapping[Figure, int]] = field(default_factory=dict[date, Mapping[Figure, int]])
    hits: Mapping[str, int] = field(default_factory=dict[str, int])


class Counters:
    """Safe from several threads. What is not handed over when the process dies is lost: these are statistics."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._totals: Counter[Figure] = Counter()
        self._days: dict[date, Counter[Figure]] = {}
        self._hits: Counter[str] = Counter()
        self._pending = 0
        self._guard = fork_safe_lock()

    def count(self, figures: Mapping[Figure, int], hit_key: str | None = None) -> None:
        day = self._clock().astimezone(UTC).date()
        with self._guard:
            self._totals.update(figures)
            self._days.setdefault(day, Counter()).update(figures)
            if hit_key is not None and (hit_key in self._hits or len(self._hits) < _MAX_KEYS):
                self._hits[hit_key] += 1
            self._pending += 1

    def is_due(self, *, events: int) -> bool:
        """Whether so many events wait to be handed over."""
        return self._pending >= events

    def totals(self) -> dict[Figure, int]:
        """Everything that this process has counted."""
        with self._guard:
            return {figure: self._totals[figure] for figure in _FIGURES}

    def take(self) -> CounterBatch | None:
        """What is pending, to be handed over; None for nothing."""
        with self._guard:
            if not self._pending:
                return None
            batch = CounterBatch(self._days, self._hits)
            self._days, self._hits, self._pending = {}, Counter(), 0
            return batch

    def give_back(self, batch: CounterBatch) -> None:
        """The hand-over failed: count it with the next."""
        with self._guard:
            for day, figures in batch.days.items():
                self._days.setdefault(day, Counter()).update(figures)
            for key, hits in batch.hits.items():
                if key in self._hits or len(self._hits) < _MAX_KEYS:
                    self._hits[key] += hits
            self._pending += 1


def summary(figures: Mapping[Figure, int]) -> dict[str, float | int]:
    """The figures with their sums, as `get_cache_stats()` in SQL has them."""
    hits = sum(figures[figure] for figure in _HITS)
    searches = sum(figures[figure] for figure in _SEARCHES)
    rate = round(hits / searches, 6) if searches else 0.0
    known = {figure: figures[figure] for figure in _FIGURES}
    return {"total_searches": searches, "cache_hits": hits, "hit_rate": rate, **known}
