"""Three queues of runs, and what claiming from each costs: see `benchmarks/queue.py`."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, LiteralString

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from benchmarks.postgres import Server
from llm_common.db.database import Database
from llm_common.db.transport import Json

__all__ = ["Drained", "QueueCosts", "QueueLoad", "QueueRate", "QueueReads", "queues"]

_WORKERS: Final = 8
_CODE: Final = "1"
_LEASE_SECONDS: Final = 600.0
_ENQUEUED_AT_ONCE: Final = 100
#: A short bill, random so that it stays as long as it is when it is stored.
_TEXT: LiteralString = (
    "(SELECT string_agg(md5(random()::text || part || r.n), ' ') FROM generate_series(1, 75) AS part)"
)
_FILL: LiteralString = f"""
INSERT INTO public.pipeline_runs
    (bill_id, jurisdiction, models, input, code_version, idempotency_key, run_at, status, completed_at, analysis_json)
SELECT 'AB-' || r.n, 'California', '{{"research": "r", "generate": "g", "review": "v"}}',
    jsonb_build_object('bill_text', {_TEXT}, 'max_rounds', 2), %(code)s, %(status)s || r.n,
    clock_timestamp() - interval '1 hour', %(status)s, CASE %(status)s WHEN 'completed' THEN now() END,
    CASE %(status)s WHEN 'completed' THEN '{{"summary": "It pays."}}'::jsonb END
FROM generate_series(1, %(runs)s) r(n)
"""
_COMPLETE: LiteralString = """
UPDATE public.pipeline_runs SET status = 'completed', lease_until = NULL, completed_at = now(),
    analysis_json = '{"summary": "It pays."}' WHERE id = ANY(%s::uuid[])
"""
_EXPLAIN: LiteralString = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT public."
_CALLS_TO_WARM_UP: Final = 7

_Pool = AsyncConnectionPool[AsyncConnection[Any]]


@dataclass(frozen=True)
class QueueLoad:
    """`few` and `many` runs wait, `done` are completed; `claims` in each of so many `rounds`.

    `drained` of the long queue are claimed and completed one after the other, to see what their dead rows cost.
    """

    few: int = 1_000
    many: int = 100_000
    done: int = 100_000
    rounds: int = 15
    claims: int = 100
    drained: int = 50_000


@dataclass(frozen=True)
class QueueRate:
    """Medians of what is done in a second, in runs; `ratio` and `done_ratio`: how many times longer it takes."""

    name: str
    few: float
    many: float
    many_and_done: float

    @property
    def ratio(self) -> float:
        return self.few / self.many

    @property
    def done_ratio(self) -> float:
        return self.few / self.many_and_done


@dataclass(frozen=True)
class QueueReads:
    """Pages that one call touches, in all its queries; its milliseconds with the most runs."""

    name: str
    few: int
    many: int
    many_and_done: int
    milliseconds: float


@dataclass(frozen=True)
class Drained:
    """Median milliseconds of claiming a run from a queue of which `runs` were completed, and from a new one.

    `autovacuum`: as the migrations have it, or off, so that every dead row is still there.
    """

    autovacuum: bool
    runs: int
    drained_ms: float
    new_ms: float

    @property
    def ratio(self) -> float:
        return self.drained_ms / self.new_ms


class _Queue:
    """One database with its queue, which stays as long as it is."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self._functions = Database.of(pool).queue
        self._enqueued = 0

    async def fill(self, queued: int, done: int) -> None:
        async with self._pool.connection() as connection:
            for status, runs in (("completed", done), ("queued", queued)):
                await connection.execute(_FILL, {"status": status, "runs": runs, "code": _CODE})
            await connection.execute("VACUUM (ANALYZE) public.pipeline_runs")
            await connection.execute("CHECKPOINT")

    async def claim(self, runs: int) -> list[str]:
        batch = await self._functions.claim("bench", code_version=_CODE, max_runs=runs, lease_seconds=_LEASE_SECONDS)
        if len(batch.runs) < runs:
            raise RuntimeError(f"{runs} runs were to be claimed, and {len(batch.runs)} came")
        return [claimed.run.id for claimed in batch.runs]

    async def complete(self, ids: Sequence[str]) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(_COMPLETE, (list(ids),))

    async def enqueue(self, runs: int) -> None:
        for first in range(0, runs, _ENQUEUED_AT_ONCE):
            batch = [self._run() for _ in range(min(_ENQUEUED_AT_ONCE, runs - first))]
            await self._functions.enqueue(batch)

    def _run(self) -> dict[str, Json]:
        self._enqueued += 1
        return {
            "bill_id": f"AB-{self._enqueued}",
            "jurisdiction": "California",
            "models": {"research": "r", "generate": "g", "review": "v"},
            "input": {"bill_text": random.randbytes(1_200).hex(), "max_rounds": 2},
            "code_version": _CODE,
            "idempotency_key": f"again {self._enqueued}",
        }

    async def read(self, call: LiteralString) -> tuple[int, float]:
        """Pages and milliseconds of a call. The calls before it read the catalogue, and settle on their plans."""
        async with self._pool.connection() as connection:
            for _ in range(_CALLS_TO_WARM_UP):
                await connection.execute(_EXPLAIN + call, prepare=False)
            row = await (await connection.execute(_EXPLAIN + call, prepare=False)).fetchone()
        assert row is not None
        (explained,) = row[0]
        plan = explained["Plan"]
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], explained["Execution Time"]

    async def vacuum_often(self) -> None:
        """Once a second, so that there are as many for each claim as where runs take their time."""
        async with self._pool.connection() as connection:
            await connection.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
            await connection.execute("SELECT pg_reload_conf()")

    async def never_vacuum(self) -> None:
        async with self._pool.connection() as connection:
            await connection.execute("ALTER TABLE public.pipeline_runs SET (autovacuum_enabled = off)")


async def _one_at_a_time(queue: _Queue, claims: int) -> list[str]:
    return [run_id for _ in range(claims) for run_id in await queue.claim(1)]


async def _eight_at_a_time(queue: _Queue, claims: int) -> list[str]:
    return [run_id for _ in range(max(1, claims // 2)) for run_id in await queue.claim(8)]


async def _by_eight_workers(queue: _Queue, claims: int) -> list[str]:
    share = max(1, claims // 2)
    claimed = await asyncio.gather(*(_one_at_a_time(queue, share) for _ in range(_WORKERS)))
    return [run_id for ids in claimed for run_id in ids]


_Work = Callable[[_Queue, int], Awaitable[list[str]]]
_CLAIMS: Final[dict[str, _Work]] = {
    "claim 1 at a time": _one_at_a_time,
    "claim 8 at a time": _eight_at_a_time,
    "8 workers claim, 1 each": _by_eight_workers,
}
_ENQUEUE: Final = f"enqueue {_ENQUEUED_AT_ONCE} at a time"
_READS: Final[dict[str, LiteralString]] = {
    "claim 1": "claim_runs('bench', '1', 1, 600)",
    "claim 8": "claim_runs('bench', '1', 8, 600)",
    "sweep": "sweep_stale_runs()",
    "llm-common runs queue": "queue_status()",
}


@dataclass(frozen=True)
class QueueCosts:
    rates: list[QueueRate]
    reads: list[QueueReads]
    drained: list[Drained]


def queues(postgres: Server, load: QueueLoad) -> QueueCosts:
    """Everything, in shuffled turns on the three queues.

    Commits do not wait for the disk: that takes many times as long, is the same for all, and would hide what is not.
    """
    return asyncio.run(_measured(postgres, load))


async def _measured(postgres: Server, load: QueueLoad) -> QueueCosts:
    async with AsyncExitStack() as stack:
        three = [await _queue(stack, postgres.create(name)) for name in ("few", "many", "many_and_done")]
        for queue, (queued, done) in zip(three, ((load.few, 0), (load.many, 0), (load.many, load.done)), strict=True):
            await queue.fill(queued, done)
        rates = await _rates(three, load)
        reads = [await _reads(name, call, three) for name, call in _READS.items()]
    return QueueCosts(rates, reads, await _drained(postgres, load))


async def _queue(stack: AsyncExitStack, dsn: str) -> _Queue:
    how: dict[str, Any] = {"autocommit": True, "options": "-c synchronous_commit=off"}
    pool: _Pool = AsyncConnectionPool(dsn, min_size=_WORKERS, max_size=_WORKERS, open=False, kwargs=how)
    return _Queue(await stack.enter_async_context(pool))


async def _rates(three: Sequence[_Queue], load: QueueLoad) -> list[QueueRate]:
    took: dict[tuple[str, int], list[float]] = {}
    turns = [(name, place) for name in _CLAIMS for place in range(len(three))]
    for _ in range(load.rounds + 1):
        for name, place in random.sample(turns, len(turns)):
            queue = three[place]
            claimed, seconds = await _timed(_CLAIMS[name](queue, load.claims))
            took.setdefault((name, place), []).append(len(claimed) / seconds)
            await queue.complete(claimed)
            _, seconds = await _timed(queue.enqueue(len(claimed)))
            took.setdefault((_ENQUEUE, place), []).append(len(claimed) / seconds)
    return [_rate(name, [took[name, place] for place in range(len(three))], load) for name in (*_CLAIMS, _ENQUEUE)]


def _rate(name: str, took: Sequence[list[float]], load: QueueLoad) -> QueueRate:
    # The first round warms up; a round has one claim of each kind, and an enqueueing after each of them.
    few, many, many_and_done = (median(measured[len(measured) // (load.rounds + 1) :]) for measured in took)
    return QueueRate(name, few, many, many_and_done)


async def _reads(name: str, call: LiteralString, three: Sequence[_Queue]) -> QueueReads:
    (few, _), (many, _), (many_and_done, milliseconds) = [await queue.read(call) for queue in three]
    return QueueReads(name, few, many, many_and_done, milliseconds)


async def _drained(postgres: Server, load: QueueLoad) -> list[Drained]:
    async with AsyncExitStack() as stack:
        names = ("new", "vacuumed", "never_vacuumed")
        new, vacuumed, never = [await _queue(stack, postgres.create(name)) for name in names]
        await vacuumed.vacuum_often()
        await never.never_vacuum()
        for queue in (new, vacuumed, never):
            await queue.fill(load.many, 0)
        for queue in (vacuumed, never):
            await _drain(queue, load.drained)
        took: dict[_Queue, list[float]] = {queue: [] for queue in (new, vacuumed, never)}
        for _ in range(load.rounds):
            for queue in random.sample([*took], len(took)):
                took[queue].append(await _claim_ms(queue, max(1, load.claims // 4)))
        typical = {queue: median(measured) for queue, measured in took.items()}
        return [Drained(queue is vacuumed, load.drained, typical[queue], typical[new]) for queue in (vacuumed, never)]


async def _drain(queue: _Queue, runs: int) -> None:
    claimed = 0
    while claimed < runs:
        ids = await queue.claim(min(50, runs - claimed))
        await queue.complete(ids)
        claimed += len(ids)


async def _claim_ms(queue: _Queue, claims: int) -> float:
    claimed, seconds = await _timed(_one_at_a_time(queue, claims))
    await queue.complete(claimed)
    return 1_000 * seconds / claims


async def _timed(work: Awaitable[Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return await work, time.perf_counter() - started
