"""Everything that can be found about one bill, as sources for a prompt."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Unpack

from llm_common._text.delimiting import source_block
from llm_common._text.tokens import estimate as estimate_tokens
from llm_common.exceptions import InvalidInputError, SearchError
from llm_common.search.batch import QueryResult
from llm_common.search.bill_queries import bill_queries
from llm_common.search.result import SearchResult
from llm_common.search.urls import canonical_url
from llm_common.web_search import PayerNames, WebSearchClient

__all__ = ["BillSources", "LegislationSearchService", "Source", "estimate_tokens", "rank_sources"]

#: Reciprocal rank fusion's constant (Cormack, Clarke and Büttcher, SIGIR 2009).
_FUSION = 60
#: Governments and universities are what a bill's analysis should rest on.
_OFFICIAL = (".gov", ".mil", ".edu", ".us")
_OFFICIAL_WEIGHT = 1.5


@dataclass(frozen=True, slots=True)
class Source:
    """One page that was found. `score` compares sources of one bill; `queries` are those that found it."""

    result: SearchResult
    score: float
    queries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BillSources:
    """The sources of one bill, best first, and what became of each query."""

    bill_id: str
    sources: tuple[Source, ...]
    searches: tuple[QueryResult, ...]

    @property
    def failed(self) -> tuple[QueryResult, ...]:
        """The queries without an answer: what they would have found is missing."""
        return tuple(search for search in self.searches if search.status != "ok")

    def package(self, max_tokens: int, count_tokens: Callable[[str], int] = estimate_tokens) -> str:
        """The best sources that fit, each fenced as `<source id="S1" title="..." url="...">`, in the order of rank.

        A source is taken whole or not at all. The text inside a fence cannot close it.
        """
        if max_tokens < 1:
            raise InvalidInputError(f"max_tokens must be 1 or more, not {max_tokens}")
        return "\n".join(_blocks_within(self.sources, max_tokens, count_tokens))


class LegislationSearchService:
    """Searches for one bill from many sides. `search` keeps cache, budget and ledger."""

    def __init__(self, search: WebSearchClient, *, concurrency: int = 8, timeout: float | None = 120.0) -> None:
        self._search = search
        self._concurrency = concurrency
        self._timeout = timeout

    async def search_exhaustively(
        self,
        bill_id: str,
        bill_text: str,
        jurisdiction: str | None = None,
        *,
        count: int = 10,
        on_progress: Callable[[int, int], None] | None = None,
        **payer: Unpack[PayerNames],
    ) -> BillSources:
        """20 to 30 searches at once, merged by page and ranked.

        Raises `InvalidInputError` for an empty bill. Searches that fail are in `failed`; when none has an answer, the
        first error is raised, because no sources and no search are different things.
        """
        # A bill of a thousand pages takes a while to read.
        queries = await asyncio.to_thread(bill_queries, bill_id, bill_text, jurisdiction)
        searches = await self._search.search_many(
            queries,
            count,
            concurrency=self._concurrency,
            timeout=self._timeout,
            on_progress=on_progress,
            **payer,
        )
        if not any(search.status == "ok" for search in searches):
            raise next(
                (search.error for search in searches if search.error is not None),
                SearchError(f"none of {len(searches)} searches had an answer in time; raise the timeout"),
            )
        return BillSources(bill_id, rank_sources(searches), tuple(searches))


def rank_sources(searches: Sequence[QueryResult]) -> tuple[Source, ...]:
    """Merge by canonical URL; a page that many queries rank high comes first, official ones before others.

    score = weight · Σ 1 / (60 + rank) over the queries that found it (reciprocal rank fusion).
    """
    first: dict[str, SearchResult] = {}
    scores: dict[str, float] = {}
    found_by: dict[str, list[str]] = {}
    for search in searches:
        for rank, result in enumerate(search.results, 1):
            page = canonical_url(result.url)
            kept = first.setdefault(page, result)
            if len(result.snippet) > len(kept.snippet):
                first[page] = result
            scores[page] = scores.get(page, 0.0) + 1 / (_FUSION + rank)
            found_by.setdefault(page, []).append(search.query)
    sources = [
        Source(
            result, scores[page] * (_OFFICIAL_WEIGHT if result.domain.endswith(_OFFICIAL) else 1), tuple(found_by[page])
        )
        for page, result in first.items()
    ]
    return tuple(sorted(sources, key=lambda source: (-source.score, source.result.url)))


def _blocks_within(sources: Sequence[Source], max_tokens: int, count_tokens: Callable[[str], int]) -> Iterator[str]:
    left, number = max_tokens, 0
    for source in sources:
        text = _block(f"S{number + 1}", source.result)
        # The newline that joins two sources is a token of its own at worst.
        if (tokens := count_tokens(text) + 1) <= left:
            left, number = left - tokens, number + 1
            yield text


def _block(source_id: str, result: SearchResult) -> str:
    when = f" (published {result.published_date})" if result.published_date else ""
    return source_block(source_id, title=result.title, url=result.url, text=result.snippet + when)
