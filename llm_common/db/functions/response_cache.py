"""The SQL functions of migrations/*_response_cache.sql."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_common.db.transport import Call, Json
from llm_common.exceptions import DatabaseError

__all__ = ["ResponseCacheFunctions", "StoredResponse"]


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """`answer` is None for a miss. `ticket` is the database's time of the look, for `put`."""

    answer: Mapping[str, Json] | None = field(repr=False)
    ticket: str


class ResponseCacheFunctions:
    """Answers of models, by a hash of the request."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def get(self, key: str) -> StoredResponse:
        """The answer, unless it has expired."""
        found = await self._call("response_cache_get", {"key": key})
        if not isinstance(found, dict) or not isinstance(ticket := found.get("ticket"), str):
            raise DatabaseError("response_cache_get gave no ticket; run `llm-common migrate`")
        answer = found.get("answer")
        return StoredResponse(answer if isinstance(answer, dict) else None, ticket)

    async def put(
        self,
        key: str,
        *,
        project: str,
        user_id: str | None,
        answer: Mapping[str, Json],
        ttl_seconds: float,
        ticket: str,
    ) -> bool:
        """Store an answer; False, and nothing stored, where its owner's were forgotten since the ticket."""
        entry: dict[str, Json] = {"project": project, "user_id": user_id, "answer": dict(answer)}
        stored = await self._call(
            "response_cache_put", {"key": key, "entry": entry, "ttl_seconds": ttl_seconds, "ticket": ticket}
        )
        return bool(stored)

    async def forget(self, project: str, user_id: str | None) -> int:
        """Delete a user's answers, or with None a project's; gives their number."""
        deleted = await self._call("response_cache_forget", {"project": project, "user_id": user_id})
        return deleted if isinstance(deleted, int) else 0

    async def cleanup(self, *, max_rows: int) -> int:
        """Delete at most so many answers that have expired; gives their number."""
        deleted = await self._call("cleanup_response_cache", {"max_rows": max_rows})
        return deleted if isinstance(deleted, int) else 0
