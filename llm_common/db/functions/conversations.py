"""The SQL functions of migrations/*_conversations.sql. Each reaches the rows of one owner only."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from llm_common.db.transport import Call, Json

__all__ = ["Backlog", "BacklogMessage", "Context", "ConversationFunctions", "ConversationMessage", "Forgotten"]


@dataclass(frozen=True, slots=True)
class ConversationMessage:
    """One message as it was saved. `id` rises with time, per user."""

    id: int
    role: str
    content: str
    timestamp: datetime
    page: str | None = None

    def as_dict(self) -> dict[str, int | str | None]:
        """For JSON: the timestamp as ISO 8601 text."""
        return {
            "id": self.id,
            "role": self.role,
            "content": self.content,
            "timestamp": self.timestamp.isoformat(),
            "page": self.page,
        }


@dataclass(frozen=True, slots=True)
class Context:
    """The newest summary, if there is one, and the newest messages, oldest first."""

    summary: str | None
    messages: tuple[ConversationMessage, ...]


@dataclass(frozen=True, slots=True)
class BacklogMessage:
    """A message that is due to be summarised; `clipped` characters of its end were left out."""

    id: int
    role: str
    content: str
    clipped: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What the next summary condenses: the one before it (None: there is none) and the messages after that one."""

    summary_id: int | None
    summary: str | None
    messages: tuple[BacklogMessage, ...]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many rows were deleted."""

    messages: int
    summaries: int


class ConversationFunctions:
    """`db.conversations`."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def save(self, owner: str, role: str, content: str, page: str | None) -> int:
        arguments: dict[str, Json] = {"owner": owner, "said_by": role, "said": content, "on_page": page}
        return cast("int", await self._call("conversation_save", arguments))

    async def context(self, owner: str, page: str | None, newest: int) -> Context:
        found = await self._call("conversation_context", {"owner": owner, "on_page": page, "newest": newest})
        row = cast("dict[str, Any]", found)
        return Context(row["summary"], _messages(row["messages"]))

    async def history(self, owner: str, newest: int, before: int | None) -> tuple[ConversationMessage, ...]:
        arguments: dict[str, Json] = {"owner": owner, "newest": newest, "before_id": before}
        return _messages(await self._call("conversation_history", arguments))

    async def recall(self, owner: str, query: str, at_most: int) -> tuple[ConversationMessage, ...]:
        return _messages(await self._call("conversation_recall", {"owner": owner, "query": query, "at_most": at_most}))

    async def backlog(self, owner: str, *, keep: int, max_messages: int, max_characters: int, clip: int) -> Backlog:
        """`keep` newest messages are left alone; `clip` and `max_characters` count characters."""
        arguments: dict[str, Json] = {
            "owner": owner,
            "keep": keep,
            "max_messages": max_messages,
            "max_characters": max_characters,
            "clip": clip,
        }
        row = cast("dict[str, Any]", await self._call("conversation_backlog", arguments))
        messages = tuple(BacklogMessage(m["id"], m["role"], m["content"], m["clipped"]) for m in row["messages"])
        return Backlog(row["summary_id"], row["summary"], messages)

    async def save_summary(
        self, owner: str, *, previous: int | None, through: int, message_count: int, summary: str
    ) -> bool:
        """False, and nothing stored, when another summary came first or a covered message was deleted."""
        arguments: dict[str, Json] = {
            "owner": owner,
            "previous_id": previous,
            "through_id": through,
            "message_count": message_count,
            "summary_text": summary,
        }
        return cast("bool", await self._call("conversation_save_summary", arguments))

    async def forget(self, owner: str) -> Forgotten:
        return _forgotten(await self._call("conversation_forget", {"owner": owner}))

    async def forget_message(self, owner: str, message_id: int) -> Forgotten:
        arguments: dict[str, Json] = {"owner": owner, "message_id": message_id}
        return _forgotten(await self._call("conversation_forget_message", arguments))

    async def cleanup(self, days: int) -> int:
        """Deletes messages older than `days`, of all users; returns how many."""
        return cast("int", await self._call("cleanup_conversations", {"days": days}))


def _messages(found: Json) -> tuple[ConversationMessage, ...]:
    return tuple(
        ConversationMessage(
            row["id"],
            row["role"],
            row["content"],
            datetime.fromisoformat(row["timestamp"]).astimezone(UTC),
            row["page"],
        )
        for row in cast("list[dict[str, Any]]", found)
    )


def _forgotten(counts: Json) -> Forgotten:
    row = cast("dict[str, int]", counts)
    return Forgotten(row["messages"], row["summaries"])
