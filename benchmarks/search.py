"""What a cached search costs, next to other caches and to a bare SELECT, and what waiters wait in a stampede.

`python -m benchmarks search`.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final, LiteralString

import psycopg
from cachetools import TTLCache
from cashews import Cache
from psycopg import AsyncConnection
from rich.console import Console
from rich.table import Table

from benchmarks.postgres import Server, server
from benchmarks.search_replay import Log, Replay, replay
from llm_common._runtime.memory_cache import MemoryCache
from llm_common.db.database import Database
from llm_common.ledger.local import LocalLedger
from llm_common.search.cached_search import CachedAnswer
from llm_common.search.providers.local import Document, LocalProvider
from llm_common.search.result import SearchResult
from llm_common.testing import FakeProvider, Reply
from llm_common.web_search import WebSearchClient

__all__ = ["HitCost", "SearchCosts", "SearchLoad", "Stampede", "searches", "show_searches"]

Contestants = dict[str, Callable[[], Awaitable[object]]]

_RESULTS: Final = tuple(
    SearchResult(title=f"Title {n}", url=f"https://example.com/{n}", snippet="A sentence about a bill. " * 8)
    for n in range(10)
)
_ROWS: Final = [result.model_dump() for result in _RESULTS]

_FILL: LiteralString = """
INSERT INTO public.web_search_cache (cache_key, query, query_folded, provider, results, fresh_until, stale_until)
SELECT 'v1:' || encode(sha256(n::text::bytea), 'hex'), 'query ' || n, 'query ' || n, 'zai', %(results)s::jsonb,
       now() + interval '1 day', now() + interval '1 day'
  FROM generate_series(1, %(entries)s) n
"""
_PICK: LiteralString = "SELECT cache_key FROM public.web_search_cache ORDER BY md5(cache_key) LIMIT %(picks)s"
_FUNCTION: LiteralString = """
SELECT public.search_cache_get(
    key => %s, folded_query => 'q', max_age_seconds => 86400::float8, lease_seconds => 10::float8)
"""
_BARE: LiteralString = "SELECT results FROM public.web_search_cache WHERE cache_key = %s"


@dataclass(frozen=True)
class SearchLoad:
    """`few` and `many` entries; `hits` timed in each of `rounds`; `callers` in each of four processes of a stampede.

    The provider takes `upstream_seconds` to answer.
    """

    few: int = 10
    many: int = 1_000_000
    hits: int = 500
    rounds: int = 7
    callers: int = 200
    upstream_seconds: float = 1.0
    log: Log = Log()  # noqa: RUF009 (frozen)
    validated: int = 3_000


@dataclass(frozen=True)
class HitCost:
    """Medians in microseconds of the clock for one hit, one after the other, and the ratio to the section's base."""

    name: str
    version: str
    entries: int
    hit_us: float
    ratio: float


@dataclass(frozen=True)
class Stampede:
    """`p99_ratio`: 99 of 100 callers had the answer within so many times the provider's own time."""

    callers: int
    upstream_requests: int
    upstream_ms: float
    p50_ms: float
    p99_ms: float
    p99_ratio: float


@dataclass(frozen=True)
class SearchCosts:
    """Memory hits as ratios to cachetools', Postgres hits to a bare SELECT, and counting in microseconds per hit."""

    memory: list[HitCost]
    postgres: list[HitCost]
    counting_us: float
    handing_over_us: float
    stampede: Stampede
    replay: Replay


def searches(load: SearchLoad, parent: Path | None = None) -> SearchCosts:
    """Takes about two minutes with a million entries, most of them to write the entries."""
    with server(parent) as postgres:
        counting, handing_over = asyncio.run(_counting(postgres.create("counting"), load))
        hits = [cost for entries in (load.few, load.many) for cost in _postgres_hits(postgres, entries, load)]
        return SearchCosts(
            memory=asyncio.run(_memory_hits(load)),
            postgres=hits,
            counting_us=counting,
            handing_over_us=handing_over,
            stampede=_stampede(postgres, load),
            replay=replay(load.log, load.validated, postgres.create("replay")),
        )


async def _time(work: Callable[[], Awaitable[object]], times: int) -> float:
    """Microseconds of one of `times`."""
    started = time.perf_counter()
    for _ in range(times):
        await work()
    return (time.perf_counter() - started) / times * 1e6


async def _medians(contestants: Contestants, times: int, rounds: int) -> dict[str, float]:
    """In turn, so that a noisy moment hits all of them; the first round warms up, where there is another."""
    took: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            took[name].append(await _time(work, times))
    return {name: median(times[1:] or times) for name, times in took.items()}


async def _memory_hits(load: SearchLoad) -> list[HitCost]:
    costs: list[HitCost] = []
    for entries in (load.few, min(load.many, 10_000)):
        ours, theirs = MemoryCache(), TTLCache[str, tuple[SearchResult, ...]](10_000, 3_600)
        cashews = Cache()
        cashews.setup(f"mem://?size=20000&check_interval=3600&unused={entries}")
        for number in range(entries):
            ours.put(f"v1:{number:064}", CachedAnswer("q", _RESULTS[:1]), ttl=3_600, generation=0)
            theirs[f"v1:{number:064}"] = _RESULTS
            await cashews.set(f"v1:{number:064}", _RESULTS, expire=3_600)
        key = f"v1:{entries // 2:064}"

        async def bare(cache: MemoryCache = ours, key: str = key) -> object:
            return cache.get(key)

        async def other(cache: Any = theirs, key: str = key) -> object:
            return cache[key]

        async def third(cache: Cache = cashews, key: str = key) -> object:
            return await cache.get(key)

        provider = LocalProvider([Document("https://example.com/", "A bill", "a bill")])
        client = WebSearchClient(provider=provider, cost_tracker=LocalLedger(), memory=ours)

        async def whole(client: WebSearchClient = client) -> object:
            return await client.search("a bill", domains=None)

        contestants = {"cachetools": other, "llm_common (tier)": bare, "llm_common (search)": whole, "cashews": third}
        took = await _medians(contestants, load.hits * 4, load.rounds)
        costs += [_cost(name, entries, took, "cachetools") for name in contestants]
        await client.aclose()
        await cashews.close()
    return costs


def _cost(name: str, entries: int, took: dict[str, float], base: str) -> HitCost:
    distribution = "llm-common" if name.startswith("llm_common") else "psycopg" if name == base == "SELECT" else name
    return HitCost(name, version(distribution), entries, took[name], took[name] / took[base])


def _postgres_hits(postgres: Server, entries: int, load: SearchLoad) -> list[HitCost]:
    dsn = postgres.create(f"hits_{entries}")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_FILL, {"entries": entries, "results": json.dumps(_ROWS[:1])})
        connection.execute("VACUUM ANALYZE public.web_search_cache")
        keys = [str(key) for (key,) in connection.execute(_PICK, {"picks": min(entries, 1_000)})]
    return asyncio.run(_time_postgres(dsn, entries, keys, load))


async def _time_postgres(dsn: str, entries: int, keys: list[str], load: SearchLoad) -> list[HitCost]:
    turn = 0

    def next_key() -> str:
        nonlocal turn
        turn += 1
        return keys[turn % len(keys)]

    async with (
        await AsyncConnection.connect(dsn, autocommit=True, prepare_threshold=None) as connection,
        Database.connect(dsn) as db,
    ):

        async def bare() -> object:
            return await (await connection.execute(_BARE, [next_key()])).fetchone()

        async def function() -> object:
            return await (await connection.execute(_FUNCTION, [next_key()])).fetchone()

        async def ours() -> object:
            held = await db.search_cache.get(next_key(), folded_query="q", max_age=86_400, lease_seconds=10)
            assert held.state == "hit"
            return held

        contestants = {"SELECT": bare, "llm_common (SQL function)": function, "llm_common (tier)": ours}
        took = await _medians(contestants, load.hits, load.rounds)
    return [_cost(name, entries, took, "SELECT") for name in took]


async def _counting(dsn: str, load: SearchLoad) -> tuple[float, float]:
    """Microseconds to count one hit, and its share of handing fifty of them over."""
    async with Database.connect(dsn) as db:
        client = WebSearchClient(None, db, provider=LocalProvider([]), cost_tracker=LocalLedger(), db_cache_ttl=0)
        statistics = client._statistics[0]  # noqa: SLF001 (what is measured is inside)
        counted: list[float] = []
        handed: list[float] = []
        for _ in range(max(load.rounds, 2) * 3):
            started = time.perf_counter()
            for number in range(49):
                statistics.count({"memory_hits": 1, "saved_nano": 1}, f"key {number}")
            counted.append((time.perf_counter() - started) / 49 * 1e6)
            started = time.perf_counter()
            await statistics.flush()
            handed.append((time.perf_counter() - started) / 50 * 1e6)
        await client.aclose()
    return median(counted[1:]), median(handed[1:])


def _stampede(postgres: Server, load: SearchLoad) -> Stampede:
    dsn = postgres.create("stampede")
    took: list[float] = []
    with FakeProvider.serve_in_thread() as provider, ExitStack() as stack:
        env = {**os.environ, **provider.environment(), "DATABASE_URL": dsn}
        command = [sys.executable, "-m", "benchmarks.search_worker", dsn, str(load.callers)]
        workers = [
            stack.enter_context(
                subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(4)
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        provider.script(Reply(delay=load.upstream_seconds))
        before = len(provider.requests)
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("the same question\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout is not None
            took += json.loads(worker.stdout.readline())
        requests = len(provider.requests) - before
    cuts = quantiles(took, n=100, method="inclusive")
    upstream = load.upstream_seconds * 1000
    p50, p99 = cuts[49] * 1000, cuts[98] * 1000
    return Stampede(len(took), requests, upstream, p50, p99, p99 / upstream)


def show_searches(console: Console, costs: SearchCosts) -> None:
    _show_hits(console, "A hit in memory; ratios to cachetools, which is a dict with times", costs.memory)
    _show_hits(console, "A hit in Postgres; ratios to a bare SELECT by key", costs.postgres)
    console.print(
        f"counting a hit takes {costs.counting_us:.1f} us, handing it over in batches {costs.handing_over_us:.0f} us\n",
        highlight=False,
    )
    s = costs.stampede
    console.print(
        f"{s.callers} callers in 4 processes on one key: {s.upstream_requests} upstream, of {s.upstream_ms:.0f} ms; "
        f"p50 {s.p50_ms:.0f} ms, p99 {s.p99_ms:.0f} ms, {s.p99_ratio:.2f} times the provider's time\n",
        highlight=False,
    )
    r = costs.replay
    console.print(
        f"replay of {r.searches} searches: {r.hit_rate:.1%} hits ({r.memory_rate:.1%} memory, {r.postgres_rate:.1%} "
        f"Postgres), ${r.saved_usd:.2f} saved and ${r.spent_usd:.2f} spent; a plain 24 h cache in each process: "
        f"{r.plain_rate:.1%} and ${r.plain_saved_usd:.2f}; possible within 24 h: {r.best_rate:.1%}. "
        f"The real client agreed on {r.validated} of {r.validated} searches.",
        highlight=False,
    )


def _show_hits(console: Console, title: str, costs: list[HitCost]) -> None:
    table = Table("", "version", title=title, title_justify="left", title_style="bold")
    for column in ("entries", "us", "ratio"):
        table.add_column(column, justify="right")
    for cost in costs:
        table.add_row(cost.name, cost.version, f"{cost.entries:,}", f"{cost.hit_us:.2f}", f"{cost.ratio:.2f}")
    console.print(table, "\n")


#: For tests: every part runs, nothing is measured well.
TINY: Final = SearchLoad(
    few=3, many=20, hits=3, rounds=1, callers=5, upstream_seconds=0.1, log=Log(days=2, searches_a_day=40), validated=40
)


def main(arguments: Sequence[str]) -> None:
    parser = ArgumentParser(prog="python -m benchmarks search", description="What a cached search costs and saves.")
    parser.add_argument("--tiny", action="store_true", help="run through all parts quickly; the figures mean nothing")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    wanted = parser.parse_args(arguments)
    costs = searches(TINY if wanted.tiny else SearchLoad(), Path(tempfile.gettempdir()))
    if wanted.json:
        print(json.dumps(asdict(costs), indent=2))
    else:
        show_searches(Console(), costs)
