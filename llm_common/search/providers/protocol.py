"""What a search provider is. Implement it to search elsewhere: `WebSearchClient(provider=YourProvider())`."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from llm_common.search.filters import Abilities
from llm_common.search.query import SearchRequest
from llm_common.search.result import SearchResult

__all__ = ["NOT_SENT", "ProviderAnswer", "SearchProvider"]

#: `SearchError.code` where it is known that the provider never saw the request, so that nothing is charged.
NOT_SENT = "not_sent"


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """The hits of one request, best first. `skipped` items could not be read."""

    results: tuple[SearchResult, ...]
    skipped: int = 0


class SearchProvider(Protocol):
    """One request in, one answer or one `SearchError` out. It never retries, follows no redirect, keeps no cache.

    An error's `status` from 300 to 499 says that the provider refused, and `code=NOT_SENT` that nothing reached it:
    such a request is not charged. `retryable` and `retry_after` (seconds) say whether and when to ask again.
    """

    @property
    def name(self) -> str:
        """For the ledger, the statistics and error messages: `zai`."""
        ...

    @property
    def engine(self) -> str:
        """What is paid for, within the provider: `search-prime`. The ledger's model is `<name>/<engine>`."""
        ...

    @property
    def identity(self) -> str | None:
        """Part of every cache key: differs wherever the same request may be answered differently. None: not cached."""
        ...

    @property
    def price_usd(self) -> Decimal:
        """The list price of one request."""
        ...

    @property
    def abilities(self) -> Abilities:
        """Which filters it applies itself."""
        ...

    async def search(self, request: SearchRequest, *, timeout: float) -> ProviderAnswer:
        """Ask once; at most `timeout` seconds. An empty answer means that there are no hits, never a failure."""
        ...

    async def aclose(self) -> None:
        """Close what is held on the running event loop."""
        ...
