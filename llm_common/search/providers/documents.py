"""A search provider over documents in Postgres, with its full-text search: no network, no price."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, cast

from llm_common._text.storable import storable
from llm_common.db.transport import Json
from llm_common.exceptions import DatabaseError, DatabaseUnavailableError, SearchError
from llm_common.search.dates import parse_published
from llm_common.search.filters import RECENCY_DAYS, Abilities
from llm_common.search.providers.local import Document
from llm_common.search.providers.protocol import ProviderAnswer
from llm_common.search.query import SearchRequest
from llm_common.search.result import SearchResult
from llm_common.search.urls import domain_of

if TYPE_CHECKING:
    from llm_common.db.database import Database

__all__ = ["DocumentProvider"]


class DocumentProvider:
    """Finds documents that share words with the query, in the table search_documents.

    Its answers are not cached: they change with the documents, and cost nothing. Undated documents pass a recency.
    """

    name = "local"
    engine = "postgres"
    identity = None
    abilities = Abilities(domains="many", recency=True)
    price_usd = Decimal(0)

    def __init__(self, database: "Database") -> None:
        self._functions = database.search_documents

    async def add(self, documents: Iterable[Document]) -> int:
        """Store documents, in place of those with the same address; gives their number.

        Raises `DatabaseError`.
        """
        return await self._functions.put([_row(document) for document in documents])

    async def remove(self, urls: Iterable[str]) -> int:
        """Delete documents by address; gives the number of those that were there."""
        return await self._functions.delete(list(urls))

    async def clear(self) -> int:
        """Delete all documents; gives their number."""
        return await self._functions.delete(None)

    async def search(self, request: SearchRequest, *, timeout: float) -> ProviderAnswer:
        since = None
        if request.recency is not None:
            since = datetime.now(UTC).date() - timedelta(days=RECENCY_DAYS[request.recency])
        try:
            async with asyncio.timeout(timeout):
                found = await self._functions.find(
                    request.text, count=request.count, domains=request.domains, since=since
                )
        except (DatabaseError, TimeoutError) as error:
            raise SearchError(
                f"the documents in Postgres could not be searched: {error or 'no answer in time'}",
                provider=self.name,
                retryable=isinstance(error, (DatabaseUnavailableError, TimeoutError)),
            ) from error
        return ProviderAnswer(tuple(_result(cast("Mapping[str, Json]", row)) for row in found))

    async def aclose(self) -> None:
        """The database is the host's."""


def _row(document: Document) -> dict[str, Json]:
    published = parse_published(document.published)
    return {
        "url": document.url,
        "host": domain_of(document.url),
        "title": storable(document.title),
        "content": storable(document.text),
        "published": published and published.isoformat(),
    }


def _result(row: Mapping[str, Json]) -> SearchResult:
    return SearchResult.model_validate({**row, "published_date": row["published"], "relevance_score": row["score"]})
