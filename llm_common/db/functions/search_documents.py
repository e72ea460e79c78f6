"""The SQL functions of migrations/*_search.sql."""

from collections.abc import Sequence
from datetime import date

from llm_common.db.transport import Call, Json
from llm_common.exceptions import DatabaseError

__all__ = ["SearchDocumentFunctions"]


class SearchDocumentFunctions:
    """Documents of one's own, and the full-text search over them."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def put(self, documents: Sequence[dict[str, Json]]) -> int:
        """Store `{"url", "host", "title", "content", "published"}`, in place of what has the same url."""
        stored = await self._call("search_documents_put", {"documents": list(documents)})
        return stored if isinstance(stored, int) else 0

    async def delete(self, urls: Sequence[str] | None) -> int:
        """Delete by url, all for None; gives their number."""
        deleted = await self._call("search_documents_delete", {"urls": None if urls is None else list(urls)})
        return deleted if isinstance(deleted, int) else 0

    async def find(self, query: str, *, count: int, domains: Sequence[str], since: date | None) -> list[Json]:
        """At most `count` of `{"url", "title", "snippet", "published", "score"}`, best first."""
        found = await self._call(
            "search_documents_find",
            {"query": query, "count": count, "domains": list(domains), "since": since and since.isoformat()},
        )
        if not isinstance(found, list):
            raise DatabaseError("search_documents_find gave no list; run `llm-common migrate`")
        return found
