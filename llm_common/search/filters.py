"""From one query to the requests that answer it, and from their results to one list. Pure.

A provider takes no domain, one, or many; wildcards none of them takes. What it cannot do is done here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import chain, zip_longest
from typing import Literal

from llm_common.search.query import MAX_COUNT, Query, Recency, SearchRequest
from llm_common.search.result import SearchResult
from llm_common.search.urls import canonical_url, is_within

__all__ = ["RECENCY_DAYS", "Abilities", "DomainFilter", "FilteredResults", "apply_filters", "plan_requests"]

DomainFilter = Literal["none", "one", "many"]

#: Where most hits will be dropped here, more are asked for: a search costs the same whatever its count.
_WIDER = 5
#: How many days a recency reaches back.
RECENCY_DAYS: Mapping[Recency, int] = {"1d": 1, "1w": 7, "1m": 31, "1y": 366}


@dataclass(frozen=True, slots=True)
class Abilities:
    """Which filters a provider applies itself, and how much it takes and gives in one request."""

    domains: DomainFilter = "none"
    recency: bool = False
    max_count: int = MAX_COUNT
    max_domains: int = 300


@dataclass(frozen=True, slots=True)
class FilteredResults:
    """The merged results, and who applied which filter: `domain=irs.gov`, `domain=*.gov`, `recency=1w`."""

    results: tuple[SearchResult, ...]
    provider_filters: tuple[str, ...]
    local_filters: tuple[str, ...]


def plan_requests(query: Query, abilities: Abilities) -> tuple[SearchRequest, ...]:
    """The requests that together answer a query: at most one per plain domain, and one for all wildcards."""
    recency_here = query.recency is not None and not abilities.recency
    domains_here = bool(query.wildcards) or (bool(query.domains) and abilities.domains == "none")
    recency = None if recency_here else query.recency
    wide = min(abilities.max_count, query.count * _WIDER)
    count = wide if recency_here else min(abilities.max_count, query.count)
    requests = [SearchRequest(query.text, count, group, recency) for group in _groups(query, abilities)]
    if domains_here or not requests:
        requests.append(SearchRequest(query.text, wide if domains_here else count, (), recency))
    return tuple(requests)


def _groups(query: Query, abilities: Abilities) -> list[tuple[str, ...]]:
    """The plain domains, as many to a request as the provider takes."""
    if abilities.domains == "none" or not query.domains:
        return []
    size = abilities.max_domains if abilities.domains == "many" else 1
    return [query.domains[start : start + size] for start in range(0, len(query.domains), size)]


def apply_filters(
    query: Query,
    abilities: Abilities,
    answers: Sequence[tuple[SearchRequest, Sequence[SearchResult]]],
    today: date,
) -> FilteredResults:
    """Apply what the provider did not, merge in turns, drop repeated pages, cut to the count.

    A provider's filter that let other domains through counts as applied here. Undated results pass a recency
    filter that is applied here: their age is not known.
    """
    by_provider = {f"recency={query.recency}"} if query.recency and abilities.recency else set[str]()
    kept: list[list[SearchResult]] = []
    for request, results in answers:
        inside = [result for result in results if _wanted(result, request, query)]
        if request.domains and len(inside) == len(results):
            by_provider.update(f"domain={domain}" for domain in request.domains)
        kept.append([r for r in inside if abilities.recency or _recent(r, query.recency, today)])
    asked = [f"domain={domain}" for domain in query.domains] + [f"domain=*.{suffix}" for suffix in query.wildcards]
    asked += [f"recency={query.recency}"] if query.recency else []
    return FilteredResults(
        results=tuple(_unique_pages(_interleave(kept)))[: query.count],
        provider_filters=tuple(name for name in asked if name in by_provider),
        local_filters=tuple(name for name in asked if name not in by_provider),
    )


def _wanted(result: SearchResult, request: SearchRequest, query: Query) -> bool:
    allowed = request.domains or (*query.domains, *query.wildcards)
    return not allowed or any(is_within(result.domain, domain) for domain in allowed)


def _recent(result: SearchResult, recency: Recency | None, today: date) -> bool:
    published = result.published
    return recency is None or published is None or published >= today - timedelta(days=RECENCY_DAYS[recency])


def _interleave(lists: Sequence[Sequence[SearchResult]]) -> Iterable[SearchResult]:
    return (result for result in chain.from_iterable(zip_longest(*lists)) if result is not None)


def _unique_pages(results: Iterable[SearchResult]) -> Iterable[SearchResult]:
    seen: set[str] = set()
    for result in results:
        address = canonical_url(result.url)
        if address not in seen:
            seen.add(address)
            yield result
