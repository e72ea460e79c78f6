"""`WebSearchClient`: web search through two cache tiers, paid for once however many ask.

async with WebSearchClient() as search:                    # ZAI_API_KEY; DATABASE_URL for the shared tier
    hits = await search.search("California SB 277 fiscal impact", domains=["*.gov"], recency="1y")
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, Unpack

from llm_common._runtime.memory_cache import MemoryCache
from llm_common._runtime.outage import Outage
from llm_common._runtime.per_loop import PerLoop
from llm_common._runtime.retry import RetryPolicy
from llm_common._text.redaction import Secret
from llm_common.exceptions import ConfigurationError
from llm_common.ledger.deferred import OutageLedger
from llm_common.ledger.local import LocalLedger
from llm_common.ledger.protocol import Ledger
from llm_common.money import to_nano
from llm_common.search.batch import QueryResult, search_all
from llm_common.search.cached_search import CachedAnswer, CachedSearch
from llm_common.search.fallback import FallbackSearch
from llm_common.search.filters import Abilities
from llm_common.search.paid_search import PaidSearch, Payer, PayerNames
from llm_common.search.postgres_cache import CacheTimes, PostgresCache
from llm_common.search.provider_search import ProviderSearch, SearchOutcome
from llm_common.search.providers.protocol import ProviderAnswer, SearchProvider
from llm_common.search.providers.registry import check_name, make_provider
from llm_common.search.query import SearchRequest, fold, parse_query
from llm_common.search.result import SearchResult
from llm_common.search.statistics import Statistics, report
from llm_common.settings import Settings

if TYPE_CHECKING:
    from llm_common.db.database import Database, DatabaseSource

__all__ = [
    "Abilities",
    "PayerNames",
    "ProviderAnswer",
    "QueryResult",
    "RetryPolicy",
    "SearchOutcome",
    "SearchProvider",
    "SearchRequest",
    "SearchResult",
    "WebSearchClient",
]

_log = logging.getLogger(__name__)

#: Of all `search_many` calls of a client. Each search takes the database four times: beyond some hundreds they would
#: only wait for its connections, and use up their time there.
_MANY_AT_ONCE = 200


class WebSearchClient:
    """Safe to use from many tasks and from several event loops. Nothing is opened before the first search.

    `supabase_client` is whatever `Database.of` takes; None means `DATABASE_URL`, and without that only the memory
    tier. A failing database never fails a search: it goes on with memory and provider, and its cost is written down
    later. Only a `cost_tracker` that is passed, or budgets in the environment, stop a search whose cost cannot be
    reserved: a budget is a promise.

    Times are in seconds; a cache time of 0 turns that tier off. `timeout` bounds one request with its retries and
    with waiting for another process that fetches the same. `stale_ttl`: for so long after its end an answer of the
    shared tier is still served while a new one is fetched. `price_usd` is what one request costs (default: the list
    price).

    `provider` is `zai`, `tavily`, `brave`, `exa`, `searxng`, `local` (the files in the folder `base_url`, or the table
    search_documents) or an object like `SearchProvider`. Several, as a list or with commas, are a chain: when one has
    no quota, fails or refuses, the next is asked; no hits are an answer. `timeout` is for each of them, and `api_key`,
    `base_url` and `price_usd` belong to the first; keys and addresses of the others come from the environment.
    """

    def __init__(
        self,
        api_key: str | None = None,
        supabase_client: "DatabaseSource | None" = None,
        memory_cache_ttl: float = 3_600,
        db_cache_ttl: float = 86_400,
        *,
        base_url: str | None = None,
        provider: "str | SearchProvider | Sequence[str | SearchProvider]" = "zai",
        cost_tracker: Ledger | None = None,
        project: str | None = None,
        price_usd: Decimal | None = None,
        timeout: float = 30.0,
        empty_cache_ttl: float = 600.0,
        stale_ttl: float = 0.0,
        lease_seconds: float = 10.0,
        retries: RetryPolicy = RetryPolicy(),
        memory: MemoryCache[CachedAnswer] | None = None,
    ) -> None:
        # A traceback with local variables shows neither.
        self._api_key = api_key = api_key and Secret(api_key)
        self._base_url = base_url = base_url and Secret(base_url)
        self._settings = Settings.from_environment()
        self._given_providers = _checked_providers(provider)
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
        self._memory: MemoryCache[CachedAnswer] = MemoryCache() if memory is None else memory
        self._db, self._owns_db = self._find_database(supabase_client)
        self._ledger = cost_tracker
        self._project = project
        self._turns = PerLoop(lambda: asyncio.Semaphore(_MANY_AT_ONCE))
        self._outage = Outage("the search cache in Postgres", "searches go on without it")
        self._statistics = [
            Statistics(_name(one), self._db.search_cache if self._db else None, self._outage)
            for one in self._given_providers
        ]

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
    def _fallback(self) -> FallbackSearch:
        return FallbackSearch([self._behind_cache(position) for position in range(len(self._given_providers))])

    def _behind_cache(self, position: int) -> ProviderSearch:
        first = position == 0
        statistics = self._statistics[position]
        provider = self._given_providers[position]
        if isinstance(provider, str):
            key, url = (self._api_key, self._base_url) if first else (None, None)
            provider = make_provider(provider, key, url, self._settings, self._db)
        own_price = self._price_nano if first else None
        price_nano = to_nano(provider.price_usd) if own_price is None else own_price
        paid_search = PaidSearch(
            provider,
            price_nano=price_nano,
            price_source="map" if own_price is None else "override",
            policy=self._retries,
            count=statistics.count,
        )
        shared = PostgresCache(self._db.search_cache, self._times, self._outage) if self._db else None
        cached = CachedSearch(
            provider,
            paid_search,
            self._memory,
            shared if self._times.shared > 0 else None,
            statistics,
            price_nano=price_nano,
            times=self._times,
            timeout=self._timeout,
        )
        return ProviderSearch(provider, cached)

    async def search(
        self,
        query: str,
        count: int = 10,
        domains: Sequence[str] | str | None = None,
        recency: str | None = None,
        **payer: Unpack[PayerNames],
    ) -> list[SearchResult]:
        """At most `count` (1 to 50) results, best first; an empty list means that there are none.

        `domains` are plain (`irs.gov`, with its subdomains) or wildcards (`*.gov`), international ones in any spelling;
        each plain one is a paid request of its own where the provider takes one at a time. `recency` is `1d`, `1w`,
        `1m`, `1y` or None. `payer`: another `ledger` than the client's, and the `step`, `user_id` and `run_id` under
        which the search stands there.

        Raises `InvalidQueryError` (nothing was sent), `SearchQuotaError`, `SearchError`, `ConfigurationError` without a
        key, and `BudgetExceededError`.
        """
        return list((await self.lookup(query, count, domains, recency, **payer)).results)

    async def lookup(
        self,
        query: str,
        count: int = 10,
        domains: Sequence[str] | str | None = None,
        recency: str | None = None,
        **payer: Unpack[PayerNames],
    ) -> SearchOutcome:
        """Like `search`, and says who answered, who applied which filter, and whether it came from a cache."""
        asked = parse_query(query, count, domains, recency)
        names: dict[str, Any] = {**payer}
        names["ledger"] = names.get("ledger") or self.ledger
        return await self._fallback.lookup(asked, Payer(**names))

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
        **payer: Unpack[PayerNames],
    ) -> list[QueryResult]:
        """Many searches, `concurrency` at a time; one `QueryResult` for each, in order. One failure sinks no other.

        At most 200 of all such searches of a client are under way; a search's own time begins with its turn. After
        `timeout` seconds the rest is `late`. `on_progress(done, total)` is called after each.
        """

        async def one(query: str) -> list[SearchResult]:
            async with self._turns.get():
                return await self.search(query, count, domains, recency, **payer)

        return await search_all(queries, one, concurrency=concurrency, timeout=timeout, on_progress=on_progress)

    async def get_cache_stats(self) -> dict[str, Any]:
        """`hit_rate`, `total_searches`, `cache_hits`, then hits by tier, misses, errors, `spent_usd`, `saved_usd`.

        One plain domain of a search counts as one, and so does each provider of a chain that was asked. `scope` says
        whether the figures are those of the `database` (all processes, all time, with `by_day` and `by_provider`) or
        of this `process`.
        """
        return await report(self._statistics, self._db.search_cache if self._db else None, self._outage)

    async def invalidate(self, query: str) -> int:
        """Forget one query, however it is spelled and with whatever filters; gives the number of entries deleted.

        Other processes' memory tiers keep it until its time there ends. Raises `DatabaseError`.
        """
        target = fold(query)
        removed = self._forget(lambda text: text == target)
        return removed if self._db is None else await self._db.search_cache.invalidate("query", target)

    async def invalidate_prefix(self, prefix: str) -> int:
        """Forget every query that begins like this, in the sense of `invalidate`."""
        target = fold(prefix)
        removed = self._forget(lambda text: text.startswith(target))
        return removed if self._db is None else await self._db.search_cache.invalidate("prefix", target)

    async def clear(self) -> int:
        """Forget everything, in the sense of `invalidate`."""
        removed = self._forget(lambda _: True)
        return removed if self._db is None else await self._db.search_cache.invalidate("all")

    def _forget(self, matches: Callable[[str], bool]) -> int:
        if "_fallback" in self.__dict__:
            self._fallback.forget_flights()
        return self._memory.invalidate(lambda answer: matches(answer.folded_query))

    async def aclose(self) -> None:
        """Let what is under way land, hand the counters over, and close what this client opened on this loop."""
        if "_fallback" in self.__dict__:
            await self._fallback.aclose()
        await asyncio.gather(*(statistics.aclose() for statistics in self._statistics))
        # After the hits, which may wait in it.
        if isinstance(self.__dict__.get("ledger"), OutageLedger):
            await self.__dict__["ledger"].aclose()
        if self._db is not None and self._owns_db:
            await self._db.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _checked_providers(
    given: "str | SearchProvider | Sequence[str | SearchProvider]",
) -> "tuple[str | SearchProvider, ...]":
    several = [name.strip() for name in given.split(",")] if isinstance(given, str) else given
    providers = tuple(several) if isinstance(several, Sequence) else (several,)
    for name in [one for one in providers if isinstance(one, str)] if providers else [""]:
        check_name(name)
    names = [_name(one) for one in providers]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"the search providers {', '.join(names)} are not all different; name each once")
    return providers


def _name(provider: str | SearchProvider) -> str:
    return provider if isinstance(provider, str) else provider.name


def _seconds(name: str, value: float, *, at_least: float = 0.0) -> float:
    if isinstance(value, bool) or not at_least <= value <= 10 * 366 * 86_400:
        raise ConfigurationError(f"{name} must be a number of seconds from {at_least:g} to ten years, not {value!r}")
    return float(value)
