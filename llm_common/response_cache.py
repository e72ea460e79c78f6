"""Stores of answers for `LLMClient(response_cache=...)`: in this process, or in Postgres for all of them.

An answer is found by exactly the same request: model, place, messages, temperature, limits, tools, schema and all other
arguments, of the same project and the same user. Only whole answers are kept (`stop`, `tool_calls`), never one that was
cut, refused or empty; streams neither read nor write. Whether an answer of a temperature above 0 may be given twice is
for you to say: it is, for every call of the client that does not pass `cache=False`.

Answers are what a model was told and said, so they are somebody's data: they are kept only where you pass a cache, for
`ttl` seconds, and `forget(project, user_id)` deletes a user's.
"""

import logging
from dataclasses import dataclass

from pydantic import ValidationError

from llm_common._runtime.memory_cache import MemoryCache
from llm_common._runtime.outage import Outage
from llm_common.db.database import Database, DatabaseSource
from llm_common.exceptions import DatabaseError, InvalidInputError
from llm_common.llm.stored_answer import Lookup, Owner, ResponseCache, StoredAnswer

__all__ = ["MemoryResponseCache", "PostgresResponseCache", "ResponseCache"]

_log = logging.getLogger(__name__)

_LONGEST_TTL = 10 * 366 * 86_400


@dataclass(frozen=True, slots=True)
class _Held:
    owner: Owner
    answer: StoredAnswer

    @property
    def size(self) -> int:
        return self.answer.size


class MemoryResponseCache:
    """Answers of this process, for `ttl` seconds; beyond `max_entries` or `max_bytes` the least recently used go.

    Several clients may share one. Safe from threads.
    """

    def __init__(self, *, ttl: float = 3_600.0, max_entries: int = 10_000, max_bytes: int = 64 * 2**20) -> None:
        self._ttl = _checked_ttl(ttl)
        self._held: MemoryCache[_Held] = MemoryCache(max_entries=max_entries, max_bytes=max_bytes)

    async def get(self, key: str) -> Lookup:
        ticket = str(self._held.generation)
        held = self._held.get(key)
        return Lookup(None if held is None else held.answer, ticket)

    async def put(self, key: str, owner: Owner, answer: StoredAnswer, *, ticket: str) -> None:
        """Nothing is stored where something was forgotten since the ticket was given."""
        self._held.put(key, _Held(owner, answer), ttl=self._ttl, generation=int(ticket))

    async def forget(self, project: str, user_id: str | None = None) -> int:
        """Delete the answers of a user, or of a whole project; gives their number."""
        return self._held.invalidate(lambda held: _is_of(held.owner, project, user_id))


class PostgresResponseCache:
    """Answers in the table `llm_response_cache`, for all processes, for `ttl` seconds. One round trip each way.

    `db` is a `Database`, a Postgres URL, a psycopg pool or a Supabase client. What models answered is then in your
    database, because you asked for it; prompts are not (a request is found by a hash). Row-level security is on.
    A database that fails or hangs makes no call fail: the model is asked, one line is logged, and 5 s later the
    database is tried again. Run `cleanup()` daily.
    """

    def __init__(self, db: DatabaseSource, *, ttl: float = 86_400.0) -> None:
        self._ttl = _checked_ttl(ttl)
        self._db = Database.of(db)
        self._db_is_ours = not isinstance(db, Database)
        self._outage = Outage("the response cache in Postgres", "models are asked each time")

    async def get(self, key: str) -> Lookup:
        try:
            found = await self._outage.call(lambda: self._db.response_cache.get(key))
        except DatabaseError as error:
            _log.debug("the response cache was not asked: %s", error)  # the outage says it once, as a warning
            return Lookup()
        if found.answer is None:
            return Lookup(None, found.ticket)
        try:
            return Lookup(StoredAnswer.model_validate(found.answer), found.ticket)
        except ValidationError:
            _log.warning("the stored answer %s cannot be read; the model is asked anew", key)
            return Lookup(None, found.ticket)

    async def put(self, key: str, owner: Owner, answer: StoredAnswer, *, ticket: str) -> None:
        """Nothing is stored where the owner's answers were forgotten since the ticket was given."""
        try:
            await self._outage.call(
                lambda: self._db.response_cache.put(
                    key,
                    project=owner.project,
                    user_id=owner.user_id,
                    answer=answer.model_dump(mode="json"),
                    ttl_seconds=self._ttl,
                    ticket=ticket,
                )
            )
        except DatabaseError as error:
            _log.debug("an answer was not stored: %s", error)  # the outage says it once, as a warning

    async def forget(self, project: str, user_id: str | None = None) -> int:
        """Delete the answers of a user, or of a whole project; gives their number. Raises `DatabaseError`.

        What is being asked for meanwhile is not stored either.
        """
        return await self._db.response_cache.forget(project, user_id)

    async def cleanup(self, *, max_rows: int = 10_000) -> int:
        """Delete at most so many answers that have expired; gives their number. Raises `DatabaseError`."""
        return await self._db.response_cache.cleanup(max_rows=max_rows)

    async def aclose(self) -> None:
        """Close the connections made here. A `Database` that was passed in is its owner's to close."""
        if self._db_is_ours:
            await self._db.aclose()


def _is_of(owner: Owner, project: str, user_id: str | None) -> bool:
    return owner.project == project and user_id in (None, owner.user_id)


def _checked_ttl(ttl: float) -> float:
    if isinstance(ttl, bool) or not 0 < ttl <= _LONGEST_TTL:
        raise InvalidInputError(f"ttl must be a number of seconds above 0, at most ten years, not {ttl!r}")
    return float(ttl)
