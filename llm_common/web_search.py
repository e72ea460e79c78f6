"""`WebSearchClient`: web search through two cache tiers, paid for once however many ask.

async with WebSearchClient() as search:                    # ZAI_API_KEY; DATABASE_URL for the shared tier
    hits = await search.search("California SB 277 fiscal impact", domains=["*.gov"], recency="1y")
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from llm_common.exceptions import ConfigurationError
from llm_common.ledger import Ledger
from llm_common.local_ledger import LocalLedger
from llm_common.money import to_nano
from llm_common.search.cached_search import CachedSearch, Found
from llm_common.search.filters import filtered, plan
from llm_common.search.many import QueryResult, run_many
from llm_common.search.memory_cache import MemoryCache
from llm_common.search.outage import Outage
from llm_common.search.outage_ledger import OutageLedger
from llm_common.search.provider import SearchProvider
from llm_common.search.providers import NAMES, make_provider
from llm_common.search.query import SearchRequest, folded, parse_query
from llm_common.search.result import SearchResult
from llm_common.search.retrying import RetryPolicy
from llm_common.search.shared_cache import CacheTimes, SharedCache
from llm_common.search.statistics import Statistics
from llm_common.search.upstream import Payer, Upstream
from llm_common.settings import Settings

if TYPE_CHECKING:
    from llm_common.db.database import Database, DatabaseSource

__all__ = ["QueryResult", "SearchOutcome", "SearchProvider", "SearchResult", "WebSearchClient"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """The results of one search, and how they came about.

    Filters read `domain=irs.gov`, `domain=*.gov`, `recency=1w`. `provider_filters` were applied by the provider,
    `local_filters` here. `cached`: nothing was asked upstream. `skipped` items could not be read.
    """

    results: tuple[SearchResult, ...]
    provider_filters: tuple[str, ...]
    local_filters: tuple[str, ...]
    cached: bool
    skipped: int


class WebSearchClient:
    """Safe to use from many tasks and from several event loops. Nothing is opened before the first search.

    `supabase_client` is whatever `Database.of` takes; None means `DATABASE_URL`, and without that only the memory
    tier. A failing database never fails a search: it goes on with memory and provider, and its cost is written down
    later. Only a `cost_tracker` that is passed, or budgets in the environment, stop a search whose cost cannot be
    reserved: a budget is a promise.

    Times are in seconds; a cache time of 0 turns that tier off. `timeout` bounds one request with its retries and
    with waiting for another process that fetches the same. `stale_ttl`: for so long after its end an answer of the
    shared tier is still served while a new one is fetched. `price_usd` is what one request costs (default: the list
    price). `provider` is `zai`, `local` or an object like `SearchProvider`; `base_url` overrides `ZAI_API_BASE`.
    """

    def __init__(
        self,
        api_key: str | None = None,
        supabase_client: "DatabaseSource | None" = None,
        memory_cache_ttl: float = 3_600,
        db_cache_ttl: float = 86_400,
        *,
        base_url: str | None = None,
        provider: str | SearchProvider = "zai",
        cost_tracker: Ledger | None = None,
        project: str | None = None,
        price_usd: Decimal | None = None,
        timeout: float = 30.0,
        empty_cache_ttl: float = 600.0,
        stale_ttl: float = 0.0,
        lease_seconds: float = 10.0,
        retries: RetryPolicy = RetryPolicy(),  # noqa: B008 (frozen)
        memory: MemoryCache | None = None,
    ) -> None:
        self._settings = Settings.from_environment()
        self._api_key = api_key
        self._base_url = base_url
        self._given_provider = _checked_provider(provider)
        self._price_nano = None if price_usd is None else to_nano(price_usd, name="price_usd")
        self._retries = retries
        self._timeout = _seconds("timeout", timeout, at_least=0.001)
        self._times = CacheTimes(
            memory=_seconds("memory_cache_ttl", memory_cache_ttl),
            shared=_seconds("db_cache_ttl", db_cache_ttl),
            empty=_seconds("empty_cache_ttl", empty_cache_ttl),
            stale=_seconds("stale_ttl", stale_ttl),
            lease=_seconds("lease_seconds", lease_seconds, at_least=0.1),
        )
        self._memory = memory or MemoryCache()
        self._db, self._owns_db = self._find_database(supabase_client)
        self._ledger = cost_tracker
        self._project = project
        self._outage = Outage("the search cache in Postgres", "searches go on without it")
        name = provider if isinstance(provider, str) else provider.name
        self._statistics = Statistics(name, self._db.search_cache if self._db else None, self._outage)

    def _find_database(self, source: "DatabaseSource | None") -> "tuple[Database | None, bool]":
        given = source or self._settings.database_url
        if given is None:
            return None, False
        from llm_common.db.database import Database

        return Database.of(given), not isinstance(given, Database)

    @cached_property
    def ledger(self) -> Ledger:
        """Where searches are paid from, unless a call names another."""
        if self._ledger is not None:
            return self._ledger
        if self._db is None:
            _log.warning("searches are recorded nowhere: set DATABASE_URL, or pass a database or a cost_tracker")
            return LocalLedger()
        from llm_common.cost_tracker import CostTracker

        tracker = CostTracker(self._db, project=self._project)
        if tracker.budgets:
            return tracker
        return OutageLedger(tracker, Outage("the cost ledger in Postgres", "searches are written down later"))

    @cached_property
    def _provider(self) -> SearchProvider:
        if not isinstance(self._given_provider, str):
            return self._given_provider
        return make_provider(self._given_provider, self._api_key, self._base_url, self._settings)

    @cached_property
    def _cached_search(self) -> CachedSearch:
        provider = self._provider
        price_nano = to_nano(provider.price_usd) if self._price_nano is None else self._price_nano
        upstream = Upstream(
            provider,
            price_nano=price_nano,
            price_source="map" if self._price_nano is None else "override",
            policy=self._retries,
            count=self._statistics.count,
        )
        shared = SharedCache(self._db.search_cache, self._times, self._outage) if self._db else None
        return CachedSearch(
            provider,
            upstream,
            self._memory,
            shared if self._times.shared > 0 else None,
            self._statistics,
            price_nano=price_nano,
            times=self._times,
            timeout=self._timeout,
        )

    async def search(
        self,
        query: str,
        count: int = 10,
        domains: Sequence[str] | str | None = None,
        recency: str | None = None,
        *,
        ledger: Ledger | None = None,
        step: str | None = None,
        user_id: str | None = None,
        run_id: str | None = None,
    ) -> list[SearchResult]:
        """At most `count` (1 to 50) results, best first; an empty list means that there are none.

        `domains` are plain (`irs.gov`, with its subdomains) or wildcards (`*.gov`); each plain one is a paid request of
        its own where the provider takes one at a time. `recency` is `1d`, `1w`, `1m`, `1y` or None.

        Raises `InvalidQueryError` (nothing was sent), `SearchQuotaError`, `SearchError`, `ConfigurationError` without a
        key, and `BudgetExceededError`.
        """
        outcome = await self.lookup(
            query, count, domains, recency, ledger=ledger, step=step, user_id=user_id, run_id=run_id
        )
        return list(outcome.results)

    async def lookup(
        self,
        query: str,
        count: int = 10,
        domains: Sequence[str] | str | None = None,
        recency: str | None = None,
        *,
        ledger: Ledger | None = None,
        step: str | None = None,
        user_id: str | None = None,
        run_id: str | None = None,
    ) -> SearchOutcome:
        """Like `search`, and says who applied which filter and whether the answer came from a cache."""
        asked = parse_query(query, count, domains, recency)
        abilities = self._provider.abilities
        payer = Payer(ledger or self.ledger, step, user_id, run_id)
        requests = plan(asked, abilities)
        found = await self._find(requests, payer)
        answers = [(request, one.results) for request, one in zip(requests, found, strict=True)]
        merged = filtered(asked, abilities, answers, datetime.now(UTC).date())
        return SearchOutcome(
            merged.results,
            merged.provider_filters,
            merged.local_filters,
            cached=all(one.cached for one in found),
            skipped=sum(one.skipped for one in found),
        )

    async def _find(self, requests: Sequence[SearchRequest], payer: Payer) -> Sequence[Found]:
        if len(requests) == 1:
            return [await self._cached_search.find(requests[0], payer)]
        # Each lands in the cache by itself: after a failure, what was paid for is still there for the next try.
        found = await asyncio.gather(
            *(self._cached_search.find(request, payer) for request in requests), return_exceptions=True
        )
        answers: list[Found] = []
        for one in found:
            if isinstance(one, BaseException):
                raise one
            answers.append(one)
        return answers

    async def search_many(
        self,
        queries: Sequence[str],
        count: int = 10,
        domains: Sequence[str] | str | None = None,
        recency: str | None = None,
        *,
        concurrency: int = 8,
        timeout: float | None = None,
        on_progress: Callable[[int, int], None] | None = None,
        ledger: Ledger | None = None,
        step: str | None = None,
        user_id: str | None = None,
        run_id: str | None = None,
    ) -> list[QueryResult]:
        """Many searches, `concurrency` at a time; one `QueryResult` for each, in order. One failure sinks no other.

        After `timeout` seconds the rest is `late`. `on_progress(done, total)` is called after each.
        """

        async def one(query: str) -> list[SearchResult]:
            return await self.search(
                query, count, domains, recency, ledger=ledger, step=step, user_id=user_id, run_id=run_id
            )

        return await run_many(queries, one, concurrency=concurrency, timeout=timeout, on_progress=on_progress)

    async def get_cache_stats(self) -> dict[str, Any]:
        """`hit_rate`, `total_searches`, `cache_hits`, then hits by tier, misses, errors, `spent_usd`, `saved_usd`.

        One plain domain of a search counts as one. `scope` says whether the figures are those of the `database`
        (all processes, all time, with `by_day` and `by_provider`) or of this `process`.
        """
        return await self._statistics.report()

    async def invalidate(self, query: str) -> int:
        """Forget one query, however it is spelled and with whatever filters; gives the number of entries deleted.

        Other processes' memory tiers keep it until its time there ends. Raises `DatabaseError`.
        """
        target = folded(query)
        removed = self._forget(lambda text: text == target)
        return removed if self._db is None else await self._db.search_cache.invalidate("query", target)

    async def invalidate_prefix(self, prefix: str) -> int:
        """Forget every query that begins like this, in the sense of `invalidate`."""
        target = folded(prefix)
        removed = self._forget(lambda text: text.startswith(target))
        return removed if self._db is None else await self._db.search_cache.invalidate("prefix", target)

    async def clear(self) -> int:
        """Forget everything, in the sense of `invalidate`."""
        removed = self._forget(lambda _: True)
        return removed if self._db is None else await self._db.search_cache.invalidate("all")

    def _forget(self, matches: Callable[[str], bool]) -> int:
        if "_cached_search" in self.__dict__:
            self._cached_search.forget_flights()
        return self._memory.invalidate(matches)

    async def aclose(self) -> None:
        """Let what is under way land, hand the counters over, and close what this client opened on this loop."""
        if "_cached_search" in self.__dict__:
            await self._cached_search.aclose()
        if "_provider" in self.__dict__:
            await self._provider.aclose()
        if isinstance(self.__dict__.get("ledger"), OutageLedger):
            await self.__dict__["ledger"].catch_up()
        await self._statistics.aclose()
        if self._db is not None and self._owns_db:
            await self._db.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _checked_provider(provider: str | SearchProvider) -> str | SearchProvider:
    if isinstance(provider, str) and provider not in NAMES:
        raise ConfigurationError(
            f"search provider {provider!r} is unknown; use one of {', '.join(NAMES)}, or pass an object"
        )
    return provider


def _seconds(name: str, value: float, *, at_least: float = 0.0) -> float:
    if isinstance(value, bool) or not at_least <= value <= 10 * 366 * 86_400:
        raise ConfigurationError(f"{name} must be a number of seconds from {at_least:g} to ten years, not {value!r}")
    return float(value)
