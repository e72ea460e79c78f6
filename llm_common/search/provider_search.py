"""A whole query at one provider: the requests that it takes, each through the cache, merged and filtered."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from llm_common.search.cached_search import CachedSearch, TierAnswer
from llm_common.search.filters import apply_filters, plan_requests
from llm_common.search.paid_search import Payer
from llm_common.search.providers.protocol import SearchProvider
from llm_common.search.query import Query, SearchRequest
from llm_common.search.result import SearchResult

__all__ = ["ProviderSearch", "SearchOutcome"]


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """The results of one search, and how they came about.

    Filters read `domain=irs.gov`, `domain=*.gov`, `recency=1w`. `provider_filters` were applied by the provider,
    `local_filters` here. `cached`: nothing was asked upstream. `skipped` items could not be read. `provider` is
    the name of the one that answered.
    """

    results: tuple[SearchResult, ...]
    provider_filters: tuple[str, ...]
    local_filters: tuple[str, ...]
    cached: bool
    skipped: int
    provider: str


class ProviderSearch:
    """`provider`, behind `cached`."""

    def __init__(self, provider: SearchProvider, cached: CachedSearch) -> None:
        self._provider = provider
        self._cached = cached

    @property
    def name(self) -> str:
        return self._provider.name

    async def lookup(self, asked: Query, payer: Payer) -> SearchOutcome:
        """Raises `SearchError`, `BudgetExceededError`, and what a host's ledger raises."""
        requests = plan_requests(asked, self._provider.abilities)
        return self._outcome(asked, requests, await self._find(requests, payer))

    async def look_in_cache(self, asked: Query, payer: Payer) -> SearchOutcome | None:
        """What is in the cache for all of it; None where something is not. Nothing is asked upstream."""
        requests = plan_requests(asked, self._provider.abilities)
        found: list[TierAnswer] = []
        for request in requests:
            one = await self._cached.peek(request, payer)
            if one is None:
                return None
            found.append(one)
        return self._outcome(asked, requests, found)

    async def _find(self, requests: Sequence[SearchRequest], payer: Payer) -> Sequence[TierAnswer]:
        if len(requests) == 1:
            return [await self._cached.find(requests[0], payer)]
        # Each lands in the cache by itself: after a failure, what was paid for is still there for the next try.
        found = await asyncio.gather(
            *(self._cached.find(request, payer) for request in requests), return_exceptions=True
        )
        answers: list[TierAnswer] = []
        for one in found:
            if isinstance(one, BaseException):
                raise one
            answers.append(one)
        return answers

    def _outcome(self, asked: Query, requests: Sequence[SearchRequest], found: Sequence[TierAnswer]) -> SearchOutcome:
        answers = [(request, one.results) for request, one in zip(requests, found, strict=True)]
        merged = apply_filters(asked, self._provider.abilities, answers, datetime.now(UTC).date())
        return SearchOutcome(
            merged.results,
            merged.provider_filters,
            merged.local_filters,
            cached=all(one.cached for one in found),
            skipped=sum(one.skipped for one in found),
            provider=self.name,
        )

    def forget_flights(self) -> None:
        """After an invalidation: what is under way was asked before it."""
        self._cached.forget_flights()

    async def aclose(self) -> None:
        await self._cached.aclose()
        await self._provider.aclose()
