"""The SQL functions of migrations/*_search.sql."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, cast

from llm_common.db.transport import Call, Json
from llm_common.exceptions import DatabaseError

__all__ = ["CacheLookup", "SearchCacheFunctions"]


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """What to do about a key.

    `hit`: serve `results`, fresh for `fresh_seconds` more. `stale`: serve `results`; with a `lease`, also fetch.
    `lease`: fetch, then put or release. `wait`: somebody else is fetching, ask again shortly.
    """

    state: Literal["hit", "stale", "lease", "wait"]
    results: Sequence[Json] = ()
    lease: str | None = None
    fresh_seconds: float = 0.0


class SearchCacheFunctions:
    """The shared tier of the search cache. Times are in seconds; a lease is a UUID."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def get(self, key: str, *, folded_query: str, max_age: float, lease_seconds: float) -> CacheLookup:
        """Look a key up, and take its lease where nobody holds it. Nothing older than `max_age` is fresh."""
        answer = await self._call(
            "search_cache_get",
            {"key": key, "folded_query": folded_query, "max_age_seconds": max_age, "lease_seconds": lease_seconds},
        )
        if not isinstance(answer, dict) or answer.get("state") not in {"hit", "stale", "lease", "wait"}:
            raise DatabaseError("search_cache_get gave no state; run `llm-common migrate`")
        state = cast("Literal['hit', 'stale', 'lease', 'wait']", answer["state"])
        results, lease, fresh = answer.get("results"), answer.get("lease"), answer.get("fresh_seconds")
        return CacheLookup(
            state=state,
            results=results if isinstance(results, list) else (),
            lease=lease if isinstance(lease, str) else None,
            fresh_seconds=float(fresh) if isinstance(fresh, (int, float)) else 0.0,
        )

    async def peek(self, key: str, *, max_age: float) -> CacheLookup | None:
        """A hit, or None: no lease is taken, and a stale answer is none."""
        answer = await self._call("search_cache_peek", {"key": key, "max_age_seconds": max_age})
        if not isinstance(answer, dict):
            return None
        results, fresh = answer.get("results"), answer.get("fresh_seconds")
        return CacheLookup(
            "hit",
            results if isinstance(results, list) else (),
            fresh_seconds=float(fresh) if isinstance(fresh, (int, float)) else 0.0,
        )

    async def renew(self, key: str, lease: str, *, lease_seconds: float) -> bool:
        """Keep a lease for `lease_seconds` from now; False when it was lost."""
        return bool(
            await self._call("search_cache_renew", {"key": key, "lease": lease, "lease_seconds": lease_seconds})
        )

    async def put(
        self,
        key: str,
        lease: str,
        *,
        query: str,
        query_folded: str,
        provider: str,
        results: Sequence[Json],
        fresh_seconds: float,
        stale_seconds: float,
    ) -> bool:
        """Store an answer and end the lease; False, and nothing stored, when the lease was lost."""
        entry: dict[str, Json] = {
            "query": query,
            "query_folded": query_folded,
            "provider": provider,
            "results": list(results),
        }
        stored = await self._call(
            "search_cache_put",
            {
                "key": key,
                "lease": lease,
                "entry": entry,
                "fresh_seconds": fresh_seconds,
                "stale_seconds": stale_seconds,
            },
        )
        return bool(stored)

    async def release(self, key: str, lease: str) -> bool:
        """Give a lease up, so that the next who asks takes over at once."""
        return bool(await self._call("search_cache_release", {"key": key, "lease": lease}))

    async def count(self, days: Mapping[date, Mapping[str, int]], hits: Mapping[str, int], *, provider: str) -> None:
        """Add counters: figures by day, hits by key."""
        rows: list[Json] = [{"day": day.isoformat(), "provider": provider, **figures} for day, figures in days.items()]
        batch: dict[str, Json] = {"days": rows, "hits": dict(hits)}
        await self._call("search_cache_count", {"batch": batch})

    async def stats(self) -> dict[str, Json]:
        """`get_cache_stats()`: the counters over all time, `by_day` and `by_provider`. Money in nano-dollars."""
        answer = await self._call("get_cache_stats", {})
        if not isinstance(answer, dict):
            raise DatabaseError("get_cache_stats gave no object; run `llm-common migrate`")
        return answer

    async def invalidate(self, scope: Literal["key", "query", "prefix", "all"], target: str = "") -> int:
        """Delete entries by key, by folded query, by a folded prefix, or all of them; gives their number."""
        deleted = await self._call("search_cache_invalidate", {"scope": scope, "target": target})
        return deleted if isinstance(deleted, int) else 0

    async def cleanup(self) -> int:
        """Delete what has expired; gives the number of entries."""
        deleted = await self._call("cleanup_search_cache", {})
        return deleted if isinstance(deleted, int) else 0
