"""Hands the counters over to Postgres and the hits to the ledger, in batches and beside the searches."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from llm_common._runtime.outage import Outage
from llm_common._runtime.per_loop import PerLoop
from llm_common.db.functions.search_cache import SearchCacheFunctions
from llm_common.exceptions import DatabaseError
from llm_common.money import to_usd
from llm_common.search.counters import CounterBatch, Counters, Figure, summary
from llm_common.search.paid_search import Payer
from llm_common.search.recorded_hits import RecordedHits

__all__ = ["Statistics", "report"]

_log = logging.getLogger(__name__)

_BATCH_EVENTS = 50
_BATCH_SECONDS = 10.0


@dataclass(slots=True)
class _Pending:
    timer: asyncio.TimerHandle | None = None
    flushes: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])


class Statistics:
    """Counts reach the database after 50 searches, ten seconds, and on `aclose`; a killed process loses the rest."""

    def __init__(self, provider: str, functions: SearchCacheFunctions | None, outage: Outage) -> None:
        self._provider = provider
        self._functions = functions
        self._outage = outage
        self._counters = Counters()
        self._recorded = RecordedHits(provider)
        self._pending: PerLoop[_Pending] = PerLoop(_Pending)

    def count(self, figures: Mapping[Figure, int], hit_key: str | None = None) -> None:
        self._counters.count(figures, hit_key)
        if self._functions is not None or self._recorded.waits:
            self._see_to_it()

    def count_hit(self, figures: Mapping[Figure, int], key: str, payer: Payer, model: str) -> None:
        """A search that the cache answered, for whom it would otherwise have been paid for."""
        self._recorded.note(payer, model)
        self.count(figures, key)

    def _see_to_it(self) -> None:
        pending = self._pending.get()
        if self._counters.is_due(events=_BATCH_EVENTS):
            self._flush_beside(pending)
        elif pending.timer is None:
            pending.timer = asyncio.get_running_loop().call_later(_BATCH_SECONDS, self._flush_beside, pending)

    def _flush_beside(self, pending: _Pending) -> None:
        if pending.timer is not None:
            pending.timer.cancel()
            pending.timer = None
        flush = asyncio.get_running_loop().create_task(self.flush())
        pending.flushes.add(flush)
        flush.add_done_callback(pending.flushes.discard)

    async def flush(self) -> None:
        """Hand over what is pending; what the database does not take now goes with the next batch."""
        await self._flush_counters(self._outage.call)
        await self._recorded.hand_over()

    async def _flush_counters(self, call: Callable[[Callable[[], Coroutine[Any, Any, None]]], Awaitable[None]]) -> bool:
        """False: the database does not take them now."""
        functions, batch = self._functions, self._counters.take()
        if functions is None or batch is None:
            return True
        try:
            await call(lambda: functions.count(_rows(batch), batch.hits, provider=self._provider))
        except DatabaseError:
            self._counters.give_back(batch)
            return False
        except asyncio.CancelledError:
            self._counters.give_back(batch)
            raise
        return True

    def totals(self) -> dict[Figure, int]:
        """Everything that this process has counted."""
        return self._counters.totals()

    async def aclose(self) -> None:
        """Hand over for the last time; what is not taken even now is told."""
        pending = self._pending.pop()
        if pending is not None:
            if pending.timer is not None:
                pending.timer.cancel()
            await asyncio.gather(*pending.flushes)
        if not await self._flush_counters(self._outage.last_call):
            _log.warning("get_cache_stats() will lack what provider %s did last: the database fails", self._provider)
        await self._recorded.aclose()


async def report(
    of_providers: Sequence[Statistics], functions: SearchCacheFunctions | None, outage: Outage
) -> dict[str, Any]:
    """What `get_cache_stats()` shows: of all processes where there is a database, else of this one."""
    for one in of_providers:
        await one.flush()
    if functions is not None:
        try:
            return _with_dollars({"scope": "database", **await outage.call(functions.stats)})
        except DatabaseError:
            pass  # logged by the outage; the scope says what is shown instead
    totals: Counter[Figure] = Counter()
    for one in of_providers:
        totals.update(one.totals())
    return _with_dollars({"scope": "process", **summary(totals)})


def _with_dollars(figures: dict[str, Any]) -> dict[str, Any]:
    return {**figures, "spent_usd": to_usd(figures["spent_nano"]), "saved_usd": to_usd(figures["saved_nano"])}


def _rows(batch: CounterBatch) -> dict[date, dict[str, int]]:
    return {day: {str(figure): amount for figure, amount in figures.items()} for day, figures in batch.days.items()}
