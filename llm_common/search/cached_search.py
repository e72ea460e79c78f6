"""One request through the tiers: memory, the flight that is under way, Postgres, the provider."""

import asyncio
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from llm_common._runtime.memory_cache import MemoryCache
from llm_common._runtime.single_flight import SingleFlight
from llm_common.exceptions import BudgetExceededError, LLMCommonError, SearchError
from llm_common.search.counters import Figure
from llm_common.search.paid_search import PaidSearch, Payer
from llm_common.search.postgres_cache import CachedResults, CacheTimes, FetchLease, PostgresCache
from llm_common.search.providers.protocol import SearchProvider
from llm_common.search.query import SearchRequest, cache_key, fold
from llm_common.search.result import SearchResult
from llm_common.search.statistics import Statistics

__all__ = ["CLOSED", "CachedAnswer", "CachedSearch", "TierAnswer"]

#: `SearchError.code` where the client was closed under the search: no other provider is to be asked.
CLOSED = "closed"

#: What an answer and a result weigh besides their texts: objects, dictionaries, the key. Measured, rounded up.
_ANSWER_BYTES = 700
_RESULT_BYTES = 1_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """One answer as the memory tier holds it. By its folded query it can be invalidated."""

    folded_query: str
    results: tuple[SearchResult, ...]

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        texts = (text for r in self.results for text in (r.title, r.url, r.snippet, r.published_date))
        return _ANSWER_BYTES + len(self.results) * _RESULT_BYTES + sum(map(sys.getsizeof, texts))


@dataclass(frozen=True, slots=True)
class TierAnswer:
    """An answer and where it came from. `skipped` items of it could not be read."""

    results: tuple[SearchResult, ...]
    source: Figure
    skipped: int = 0

    @property
    def cached(self) -> bool:
        return self.source != "misses"


class CachedSearch:
    """`timeout` bounds one request with everything it waits for, in seconds."""

    def __init__(
        self,
        provider: SearchProvider,
        paid_search: PaidSearch,
        memory: MemoryCache[CachedAnswer],
        shared: PostgresCache | None,
        statistics: Statistics,
        *,
        price_nano: int,
        times: CacheTimes,
        timeout: float,
    ) -> None:
        self._provider = provider
        self._paid_search = paid_search
        self._memory = memory
        self._shared = shared
        self._statistics = statistics
        self._price_nano = price_nano
        self._times = times
        self._timeout = timeout
        self._flights: SingleFlight[TierAnswer] = SingleFlight(_cut_off)

    async def find(self, request: SearchRequest, payer: Payer) -> TierAnswer:
        """The answer, from the nearest tier that has one. Raises `SearchError` or `BudgetExceededError`."""
        identity = self._provider.identity
        if identity is None:
            return await self._find_anew(request, payer)
        key = cache_key(request, identity)
        held = self._memory.get(key)
        if held is not None:
            self._count("memory_hits", key, payer)
            return TierAnswer(held.results, "memory_hits")
        while True:
            leads = self._flights.under_way(key) is None
            try:
                found = await self._flights.run(key, lambda: self._fetch(key, request, payer))
            except BudgetExceededError:
                # The budget that refused is the leader's; a follower has to ask its own.
                if not leads:
                    continue
                self._statistics.count({"errors": 1})
                raise
            except LLMCommonError:
                self._statistics.count({"errors": 1})
                raise
            if not leads:
                found = TierAnswer(found.results, "coalesced", found.skipped)
            self._count(found.source, key, payer)
            return found

    async def peek(self, request: SearchRequest, payer: Payer) -> TierAnswer | None:
        """A fresh answer from a tier that has one; no provider is asked."""
        identity = self._provider.identity
        if identity is None:
            return None
        key = cache_key(request, identity)
        source: Figure = "memory_hits"
        results = None if (entry := self._memory.get(key)) is None else entry.results
        if results is None and self._shared is not None:
            generation = self._memory.generation
            held = await self._shared.peek(key)
            if held is not None:
                source, results = "db_hits", held.results
                self._remember(key, request, results, min(held.fresh_seconds, self._times.memory), generation)
        if results is None:
            return None
        self._count(source, key, payer)
        return TierAnswer(results, source)

    async def _find_anew(self, request: SearchRequest, payer: Payer) -> TierAnswer:
        """For a provider whose answers are not cached."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            answer = await self._paid_search.ask(request, payer, deadline=deadline)
        except LLMCommonError:
            self._statistics.count({"errors": 1})
            raise
        self._statistics.count({"misses": 1, "skipped_items": answer.skipped})
        return TierAnswer(answer.results, "misses", answer.skipped)

    def _count(self, source: Figure, key: str, payer: Payer) -> None:
        if source == "misses":
            self._statistics.count({"misses": 1})
        else:
            figures: Mapping[Figure, int] = {source: 1, "saved_nano": self._price_nano}
            self._statistics.count_hit(figures, key, payer, self._paid_search.model)

    async def _fetch(self, key: str, request: SearchRequest, payer: Payer) -> TierAnswer:
        deadline = asyncio.get_running_loop().time() + self._timeout
        generation = self._memory.generation
        held = await self._shared.look(key, request, deadline=deadline) if self._shared else None
        if not isinstance(held, CachedResults):
            return await self._ask(key, request, payer, held, deadline, generation)
        if held.fresh_seconds > 0:
            self._remember(key, request, held.results, min(held.fresh_seconds, self._times.memory), generation)
            return TierAnswer(held.results, "db_hits")
        if held.lease is not None:
            lease = held.lease
            self._flights.launch(f"{key} anew", lambda: self._refresh(key, request, payer, lease))
        return TierAnswer(held.results, "stale_hits")

    async def _ask(
        self,
        key: str,
        request: SearchRequest,
        payer: Payer,
        lease: FetchLease | None,
        deadline: float,
        generation: int,
    ) -> TierAnswer:
        if self._shared is None or lease is None:
            answer = await self._paid_search.ask(request, payer, deadline=deadline)
        else:
            async with self._shared.holding(lease):
                answer = await self._paid_search.ask(request, payer, deadline=deadline)
                await self._shared.put(lease, request, self._provider.name, answer.results)
        if answer.skipped:
            self._statistics.count({"skipped_items": answer.skipped})
        ttl = self._times.memory if answer.results else min(self._times.empty, self._times.memory)
        self._remember(key, request, answer.results, ttl, generation)
        return TierAnswer(answer.results, "misses", answer.skipped)

    async def _refresh(self, key: str, request: SearchRequest, payer: Payer, lease: FetchLease) -> TierAnswer:
        """Replace a stale answer that was served already; nobody waits for this."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            return await self._ask(key, request, payer, lease, deadline, self._memory.generation)
        except LLMCommonError as error:
            _log.warning("a stale search answer could not be fetched anew, the next search tries again: %s", error)
            raise

    def _remember(
        self, key: str, request: SearchRequest, results: tuple[SearchResult, ...], ttl: float, generation: int
    ) -> None:
        self._memory.put(key, CachedAnswer(fold(request.text), results), ttl=ttl, generation=generation)

    def forget_flights(self) -> None:
        """After an invalidation: what is under way was asked before it."""
        self._flights.forget()

    async def aclose(self) -> None:
        await self._flights.aclose()


def _cut_off() -> SearchError:
    return SearchError("the search was cut off, because its client was closed", code=CLOSED)
