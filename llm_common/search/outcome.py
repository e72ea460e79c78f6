"""The results of one search, and how they came about."""

from dataclasses import dataclass

from llm_common.search.result import SearchResult

__all__ = ["SearchOutcome"]


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
