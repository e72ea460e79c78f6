"""`ConversationMemory`: what one user and the assistant said, in front of the next turn.

The latest messages are given back as they were; what is older is condensed into a summary; everything can be
searched, and forgotten for good. A memory object belongs to one user and reaches nobody else's rows.
"""

from typing import Any, Protocol, Self
from uuid import UUID

from llm_common._text.storable import storable
from llm_common.db.database import Database, DatabaseSource
from llm_common.db.functions.conversations import Backlog, ConversationMessage, Forgotten
from llm_common.exceptions import EmptyAnswerError, InvalidInputError
from llm_common.memory.context import context_messages, fit
from llm_common.memory.summary import summary_messages

__all__ = ["ChatModel", "ConversationMemory", "ConversationMessage", "Forgotten"]

_ROLES = ("system", "user", "assistant", "tool")
_MAX_CONTENT_BYTES = 1_048_576
_MAX_NAME_CHARACTERS = 500
_MAX_QUERY_CHARACTERS = 1_000
_MAX_MESSAGES = 1_000
_MAX_ID = 2**63 - 1

# One summary's prompt stays within the window of a small model: about 30,000 tokens.
_BATCH_MESSAGES = 200
_BATCH_CHARACTERS = 60_000
_CLIP_CHARACTERS = 8_000


class ChatModel(Protocol):
    """What `summarize_history` needs of a model: `LLMClient`, or anything with such a `chat`."""

    async def chat(self, messages: Any, model: Any, /, **options: Any) -> Any: ...


class ConversationMemory:
    """The memory of one user.

    `db_client` is a `Database`, a Postgres DSN, a psycopg pool or a Supabase client; in a server share one of them,
    because a DSN opens connections for each memory (close them: `async with`, or `aclose`). `user_id` is text or a
    UUID. `max_history` is how many of the latest messages (1 to 1000) come back word for word. `token_budget` limits
    `get_context` further: to about so many tokens, estimated from the length of the text.

    >>> memory = ConversationMemory(db, "user-7")                         # doctest: +SKIP
    >>> await memory.save_message("user", "My daughter is called Ada.")    # doctest: +SKIP
    >>> await llm.chat([*await memory.get_context(), question], model)     # doctest: +SKIP
    """

    def __init__(
        self, db_client: DatabaseSource, user_id: str | UUID, max_history: int = 20, *, token_budget: int | None = None
    ) -> None:
        self._user_id = _name(str(user_id) if isinstance(user_id, UUID) else user_id, "user_id")
        self._max_history = _count(max_history, "max_history")
        if token_budget is not None and token_budget < 1:
            raise InvalidInputError(f"token_budget must be 1 or more, not {token_budget}; leave it out for no limit")
        self._token_budget = token_budget
        self._db = Database.of(db_client)
        self._opened_here = self._db is not db_client

    @property
    def user_id(self) -> str:
        return self._user_id

    async def get_context(self, page: str | None = None) -> list[dict[str, str]]:
        """Messages (`{"role", "content"}`) to put in front of a chat.

        In order: a system message with the summary of what is older than the window, if one was made (as fenced
        data); with `page` a system message that names it; then the latest `max_history` messages, oldest first.
        With `page` the window holds the latest messages of that page and those saved without one, so it may reach
        further back than the window without. A message of a tool comes as fenced data in the user's role, because
        providers refuse a tool message without the call it belongs to.

        Under a `token_budget` the notes come first, then as many of the newest messages as fit.
        """
        page = None if page is None else _name(page, "page")
        context = await self._db.conversations.context(self._user_id, page, self._max_history)
        messages = context_messages(context, page)
        if self._token_budget is None:
            return messages
        return fit(messages, len(messages) - len(context.messages), self._token_budget)

    async def save_message(self, role: str, content: str, page: str | None = None) -> int:
        """Store one message and return its id; ids rise in the order of saving.

        `role` is system, user, assistant or tool; `content` is text of 1 byte to 1 MB. `page` is where the user
        was (a route, a document), if that matters. Raises `InvalidInputError`, and then nothing was written.
        """
        if role not in _ROLES:
            raise InvalidInputError(f"role {role!r} is not one; use {', '.join(_ROLES)}")
        _content(content)
        page = None if page is None else _name(page, "page")
        return await self._db.conversations.save(self._user_id, role, content, page)

    async def summarize_history(self, llm: ChatModel, model: str | None = None, *, max_tokens: int = 4_000) -> str:
        """Condense what is older than the window into the summary, and return it ("" while there is none).

        `llm` is an `LLMClient`. Each message goes into a summary once: the next one continues from the last. A long
        backlog takes several calls, and each is stored when it is done. When nothing is due no call is made. If
        meanwhile somebody else summarised, or something was forgotten, the result is dropped and what is stored
        now is returned. An error of the model passes through; the stored summary stays as it was.

        Call it now and then, after a turn or in a worker: until then, what left the window is only in `recall`.
        `max_tokens` bounds each answer, a reasoning model's thoughts included.
        """
        while (backlog := await self._backlog()).messages:
            answer = await llm.chat(
                summary_messages(backlog),
                model,
                temperature=0.2,
                max_tokens=max_tokens,
                step="summarize",
                user_id=self._user_id,
            )
            stored = await self._db.conversations.save_summary(
                self._user_id,
                previous=backlog.summary_id,
                through=backlog.messages[-1].id,
                message_count=len(backlog.messages),
                summary=_summary_text(answer),
            )
            if not stored:
                return (await self._backlog()).summary or ""
        return backlog.summary or ""

    async def recall(self, query: str, limit: int = 5) -> list[ConversationMessage]:
        """Search all the user's messages; the best first, [] for no match.

        Messages with all words of the query come before those with some; case does not matter, word endings do.
        The query is also looked for as it stands, which finds text in languages without spaces.
        """
        _storable(query, "query")
        if len(query) > _MAX_QUERY_CHARACTERS:
            raise InvalidInputError(f"query has {len(query)} characters; {_MAX_QUERY_CHARACTERS} is the most")
        if not (query := query.strip()):
            return []
        return list(await self._db.conversations.recall(self._user_id, query, _count(limit, "limit")))

    async def history(self, limit: int = 50, before: int | None = None) -> list[ConversationMessage]:
        """The latest messages, oldest first; with `before`, those before the message of that id (for paging)."""
        before = None if before is None else _id(before, "before")
        return list(await self._db.conversations.history(self._user_id, _count(limit, "limit"), before))

    async def forget(self) -> Forgotten:
        """Delete everything of this user, messages and summaries, for good. Returns how many of each."""
        return await self._db.conversations.forget(self._user_id)

    async def forget_message(self, message_id: int) -> Forgotten:
        """Delete one message, and every summary that it went into; the next `summarize_history` makes it anew.

        `messages` of the result is 0 where this user has no such message.
        """
        return await self._db.conversations.forget_message(self._user_id, _id(message_id, "message_id"))

    async def aclose(self) -> None:
        """Close what was opened for this memory; a `Database`, pool or client of the host stays open."""
        if self._opened_here:
            await self._db.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _backlog(self) -> Backlog:
        return await self._db.conversations.backlog(
            self._user_id,
            keep=self._max_history,
            max_messages=_BATCH_MESSAGES,
            max_characters=_BATCH_CHARACTERS,
            clip=_CLIP_CHARACTERS,
        )


def _summary_text(answer: object) -> str:
    # What PostgreSQL cannot hold is no reason to lose an answer that was paid for.
    text = storable(str(answer)).strip()
    if not text:
        raise EmptyAnswerError("the model answered the order to summarise with nothing; the summary stays as it was")
    return text


def _content(content: object) -> None:
    text = _storable(content, "content")
    size = len(text.encode())
    if not size:
        raise InvalidInputError("content is empty; there is nothing to save")
    if size > _MAX_CONTENT_BYTES:
        raise InvalidInputError(f"content has {size} bytes; {_MAX_CONTENT_BYTES} (1 MB) is the most for one message")


def _name(value: object, name: str) -> str:
    text = _storable(value, name)
    if not text.strip():
        raise InvalidInputError(f"{name} is empty")
    if len(text) > _MAX_NAME_CHARACTERS:
        raise InvalidInputError(f"{name} has {len(text)} characters; {_MAX_NAME_CHARACTERS} is the most")
    return text


def _storable(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"{name} must be text, not {type(value).__name__}")
    if "\0" in value:
        raise InvalidInputError(f"{name} has a NUL character, which PostgreSQL cannot store; remove it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{name} has half of a surrogate pair at {error.start}; it is not valid text") from None
    return value


def _count(value: object, name: str) -> int:
    if not isinstance(value, int) or not 1 <= value <= _MAX_MESSAGES:
        raise InvalidInputError(f"{name} must be a whole number from 1 to {_MAX_MESSAGES}, not {value!r}")
    return value


def _id(value: object, name: str) -> int:
    if not isinstance(value, int) or not 0 <= value <= _MAX_ID:
        raise InvalidInputError(f"{name} {value!r} is not the id of a message; save_message and history give them")
    return value
