"""The second tier: answers and leases in Postgres, shared by all processes. Its failure never fails a search."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from llm_common._runtime.outage import Outage
from llm_common._runtime.shielding import run_shielded
from llm_common.db.functions.search_cache import SearchCacheFunctions
from llm_common.db.transport import Json
from llm_common.exceptions import DatabaseError, SearchError
from llm_common.search.query import SearchRequest, fold
from llm_common.search.result import SearchResult

__all__ = ["CacheTimes", "CachedResults", "FetchLease", "PostgresCache"]

_log = logging.getLogger(__name__)

_RESULTS = TypeAdapter(tuple[SearchResult, ...])
#: Waiters ask again after a twentieth of the time they waited already, so that they lose little of it.
_POLL_SHARE = 0.05
_POLL_SECONDS = (0.02, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheTimes:
    """For how long answers are kept, in seconds.

    `empty` is for answers without hits, which must not hide new ones for a day. A `stale` answer is served while
    a new one is fetched, for that long after it expired. A `lease` is renewed three times before it ends.
    """

    memory: float = 3_600.0
    shared: float = 86_400.0
    empty: float = 600.0
    stale: float = 0.0
    lease: float = 10.0


@dataclass(frozen=True, slots=True)
class CachedResults:
    """An answer that is there. `fresh_seconds` is 0 for a stale one; with a `lease` it is on us to fetch it anew."""

    results: tuple[SearchResult, ...]
    fresh_seconds: float
    lease: "FetchLease | None" = None


@dataclass(frozen=True, slots=True)
class FetchLease:
    """The right and the duty to fetch `key`."""

    key: str
    token: str


class PostgresCache:
    """`look` first; with a `FetchLease` fetch within `holding`, and `put` there."""

    def __init__(self, functions: SearchCacheFunctions, times: CacheTimes, outage: Outage) -> None:
        self._functions = functions
        self._times = times
        self._outage = outage

    async def look(self, key: str, request: SearchRequest, *, deadline: float) -> CachedResults | FetchLease | None:
        """The answer, or the lease to fetch it, waiting for whoever has the lease. None: the tier is out of order.

        `deadline` is in the loop's time; beyond it a `SearchError` says that somebody else's fetch did not end.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            try:
                found = await self._look_once(key, request)
            except DatabaseError:
                return None
            if found is not None:
                return found
            now = loop.time()
            pause = min(max((now - started) * _POLL_SHARE, _POLL_SECONDS[0]), _POLL_SECONDS[1])
            if now + pause >= deadline:
                raise SearchError(
                    f"another process has been fetching the same search for {now - started:.1f} s; try again",
                    retryable=True,
                )
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 (spreads the crowd, guards nothing)

    async def peek(self, key: str) -> CachedResults | None:
        """A fresh answer, if there is one; nobody is waited for and no lease is taken."""
        with suppress(DatabaseError):  # logged by the outage
            lookup = await self._outage.call(lambda: self._functions.peek(key, max_age=self._times.shared))
            if lookup is not None:
                with suppress(ValidationError):  # whoever looks with a lease deletes it
                    return CachedResults(_RESULTS.validate_python(lookup.results), lookup.fresh_seconds)
        return None

    async def _look_once(self, key: str, request: SearchRequest) -> CachedResults | FetchLease | None:
        """None: wait, somebody else is fetching."""
        lookup = await self._outage.call(
            lambda: self._functions.get(
                key,
                folded_query=fold(request.text),
                max_age=self._times.shared,
                lease_seconds=self._times.lease,
            )
        )
        lease = FetchLease(key, lookup.lease) if lookup.lease else None
        if lookup.state in {"hit", "stale"}:
            try:
                return CachedResults(_RESULTS.validate_python(lookup.results), lookup.fresh_seconds, lease)
            except ValidationError:
                _log.warning("the cached entry %s cannot be read; it is deleted and fetched anew", key)
                await self._outage.call(lambda: self._functions.invalidate("key", key))
                return None
        return lease

    @asynccontextmanager
    async def holding(self, lease: FetchLease) -> AsyncGenerator[None]:
        """Keep a lease alive; give it up when the body fails, so that another takes over at once."""
        renewing = asyncio.create_task(self._keep_renewing(lease))
        try:
            yield
        except BaseException:
            with suppress(DatabaseError):  # logged by the outage; the lease ends by itself
                await run_shielded(self._outage.call(lambda: self._functions.release(lease.key, lease.token)))
            raise
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})

    async def _keep_renewing(self, lease: FetchLease) -> None:
        held = True
        while held:
            await asyncio.sleep(self._times.lease / 3)
            with suppress(DatabaseError):  # logged by the outage; the next beat may come through
                held = await self._outage.call(
                    lambda: self._functions.renew(lease.key, lease.token, lease_seconds=self._times.lease)
                )

    async def put(
        self, lease: FetchLease, request: SearchRequest, provider: str, results: Sequence[SearchResult]
    ) -> None:
        """Store an answer and end the lease. Nothing is stored when the lease was lost or the key invalidated."""
        rows: list[Json] = [result.model_dump() for result in results]
        with suppress(DatabaseError):  # logged by the outage; the answer is served all the same
            await self._outage.call(
                lambda: self._functions.put(
                    lease.key,
                    lease.token,
                    query=request.text,
                    query_folded=fold(request.text),
                    provider=provider,
                    results=rows,
                    fresh_seconds=self._times.shared if rows else min(self._times.empty, self._times.shared),
                    stale_seconds=self._times.stale if rows else 0.0,
                )
            )
