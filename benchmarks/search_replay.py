"""A month of searches, replayed in simulated time: what the two tiers save, next to a plain 24 h cache in each process.

The month goes through a model of the tiers. The same model and the real client (its memory tier on a simulated clock,
its rows in Postgres aged by as much before each search) replay the first searches of the log, and have to agree on
every one of them.
"""

import asyncio
import random
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from typing import Final

import psycopg

from llm_common._runtime.memory_cache import MemoryCache
from llm_common.ledger.local import LocalLedger
from llm_common.search.filters import Abilities
from llm_common.search.providers.protocol import ProviderAnswer
from llm_common.search.query import SearchRequest, fold
from llm_common.search.result import SearchResult
from llm_common.web_search import WebSearchClient

__all__ = ["Log", "Replay", "replay"]

_DAY: Final = 86_400.0
_MEMORY_TTL: Final = 3_600.0
_PRICE: Final = Decimal("0.01")


@dataclass(frozen=True)
class Log:
    """Searches whose queries follow Zipf's law: the n-th of `queries` is asked in proportion to 1 / n ** `exponent`.

    They come by day rather than by night, one in ten in another spelling, to one of `processes`, each of which is
    restarted `restarts` times a day.
    """

    days: int = 30
    searches_a_day: int = 1_500
    queries: int = 1_000
    exponent: float = 1.0
    processes: int = 2
    restarts: int = 2


@dataclass(frozen=True)
class Replay:
    """Shares of all searches. `best_rate` is what no cache of 24 h can pass; money in dollars, of `searches` * $0.01.

    `validated` searches were replayed by the real client too.
    """

    searches: int
    memory_rate: float
    postgres_rate: float
    hit_rate: float
    plain_rate: float
    best_rate: float
    spent_usd: float
    saved_usd: float
    plain_saved_usd: float
    validated: int


@dataclass(frozen=True)
class _Search:
    at: float
    process: int
    text: str


def replay(log: Log, validated: int, dsn: str) -> Replay:
    """Raises `AssertionError` where the real client and the model disagree."""
    searches = _searches(log, random.Random(277))  # fixed, so that runs can be compared
    tiers = Counter(_by_tier(searches, log))
    head = searches[:validated]
    real = asyncio.run(_by_client(head, log, dsn))
    modelled = _by_tier(head, log)
    wrong = [one for one in zip(head, real, modelled, strict=True) if one[1] != one[2]]
    assert not wrong, f"the model is wrong about {len(wrong)} searches, first {wrong[0]}"
    total = len(searches)
    hits = tiers["memory"] + tiers["postgres"]
    plain = _hits_of_plain(searches, lambda s: (s.process, _life(s, log), s.text))
    price = float(_PRICE)
    return Replay(
        searches=total,
        memory_rate=tiers["memory"] / total,
        postgres_rate=tiers["postgres"] / total,
        hit_rate=hits / total,
        plain_rate=plain / total,
        best_rate=_hits_of_plain(searches, lambda s: fold(s.text)) / total,
        spent_usd=tiers["provider"] * price,
        saved_usd=hits * price,
        plain_saved_usd=plain * price,
        validated=validated,
    )


def _searches(log: Log, chance: random.Random) -> list[_Search]:
    weights = list(accumulate(1 / rank**log.exponent for rank in range(1, log.queries + 1)))
    moments = sorted(
        day * _DAY + min(max(chance.gauss(0.58, 0.15), 0.0), 0.999) * _DAY
        for day in range(log.days)
        for _ in range(log.searches_a_day)
    )
    found: list[_Search] = []
    for moment in moments:
        number = bisect(weights, chance.random() * weights[-1])
        text = f"Fiscal impact of bill {number}"
        text = text.upper() if chance.random() < 0.1 else text
        found.append(_Search(moment, chance.randrange(log.processes), text))
    return found


def _life(search: _Search, log: Log) -> int:
    """Which of its lives the process is in; the processes are restarted one after the other."""
    each = _DAY / log.restarts
    return int((search.at + search.process * each / log.processes) // each)


def _by_tier(searches: Sequence[_Search], log: Log) -> list[str]:
    """The model: an answer is kept for a day from when it was fetched, and in memory for an hour of that."""
    fetched: dict[str, float] = {}
    in_memory: dict[tuple[int, int, str], float] = {}
    tiers: list[str] = []
    for search in searches:
        key = fold(search.text)
        here = (search.process, _life(search, log), key)
        if search.at < in_memory.get(here, 0.0):
            tiers.append("memory")
            continue
        fresh = search.at < fetched.get(key, -_DAY) + _DAY
        tiers.append("postgres" if fresh else "provider")
        if not fresh:
            fetched[key] = search.at
        in_memory[here] = min(search.at + _MEMORY_TTL, fetched[key] + _DAY)
    return tiers


def _hits_of_plain(searches: Sequence[_Search], key_of: Callable[[_Search], object]) -> int:
    """Hits of a cache that keeps an answer for a day from when it was fetched."""
    until: dict[object, float] = {}
    hits = 0
    for search in searches:
        key = key_of(search)
        if search.at < until.get(key, 0.0):
            hits += 1
        else:
            until[key] = search.at + _DAY
    return hits


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class _Provider:
    """Answers at once, and counts."""

    name = "replay"
    engine = "none"
    identity = "replay"
    abilities = Abilities(domains="many", recency=True)
    price_usd = _PRICE

    def __init__(self) -> None:
        self.asked = 0

    async def search(self, request: SearchRequest, *, timeout: float) -> ProviderAnswer:  # noqa: ARG002 (the protocol's)
        self.asked += 1
        return ProviderAnswer((SearchResult(title=request.text, url="https://example.com/", snippet="text"),))

    async def aclose(self) -> None: ...


async def _by_client(searches: Sequence[_Search], log: Log, dsn: str) -> list[str]:
    """Which tier of the real client answered each search: told by whether Postgres' rows and the provider were used."""
    clock = _Clock()
    provider = _Provider()
    clients: dict[int, tuple[int, WebSearchClient]] = {}
    tiers: list[str] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for search in searches:
            _age(connection, search.at - clock.now)
            clock.now = search.at
            life = _life(search, log)
            running = clients.get(search.process)
            if running is None or running[0] != life:
                if running is not None:
                    await running[1].aclose()
                memory = MemoryCache(clock=clock)
                client = WebSearchClient(None, dsn, provider=provider, cost_tracker=LocalLedger(), memory=memory)
                clients[search.process] = running = (life, client)
            asked, held = provider.asked, _memory_hits(running[1])
            await running[1].search(search.text)
            in_memory = _memory_hits(running[1]) > held
            tiers.append("memory" if in_memory else "provider" if provider.asked > asked else "postgres")
        for _, client in clients.values():
            await client.aclose()
    return tiers


def _memory_hits(client: WebSearchClient) -> int:
    return client._statistics[0].totals()["memory_hits"]  # noqa: SLF001 (the public figures are those of all processes)


def _age(connection: psycopg.Connection, seconds: float) -> None:
    with connection.transaction():
        # Whoever counts hits locks rows in the order of their keys; an UPDATE of all of them does not.
        connection.execute("LOCK TABLE public.web_search_cache IN EXCLUSIVE MODE")
        connection.execute(
            "UPDATE public.web_search_cache SET cached_at = cached_at - make_interval(secs => %(s)s),"
            " fresh_until = fresh_until - make_interval(secs => %(s)s),"
            " stale_until = stale_until - make_interval(secs => %(s)s)",
            {"s": seconds},
        )
