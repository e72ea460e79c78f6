"""`python -m benchmarks endurance`: does a process stay as small as it was, whatever it has done?

Each kind of work is done in two equal halves, after a warm-up. What the second half leaves behind beyond the first is
growth: Python's memory (tracemalloc), its objects, its sockets, the loop's tasks. A process that leaks a little for
each call grows by that much for each call of the second half; one that does not, by nothing to speak of.
"""

import asyncio
import gc
import json
import os
import tracemalloc
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.calls import instant_server
from llm_common.ledger.local import LocalLedger
from llm_common.llm_client import LLMClient

__all__ = ["Growth", "main"]

_CONCURRENCY = 20
_MODEL = "openai/gpt-4o"


@dataclass(frozen=True)
class Growth:
    """What `times` more of the same left behind. `held` is what the ledger still has reserved."""

    work: str
    times: int
    bytes: int
    objects: int
    sockets: int
    tasks: int
    held: int


@dataclass(frozen=True)
class _Size:
    bytes: int
    objects: int
    sockets: int
    tasks: int


def main(arguments: Sequence[str]) -> None:
    parser = ArgumentParser(prog="python -m benchmarks endurance", description="Growth of one process at work.")
    parser.add_argument("--calls", type=int, default=50_000, help="calls (default 50000)")
    parser.add_argument("--streams", type=int, default=5_000, help="streams that are cancelled or left (default 5000)")
    parser.add_argument("--clients", type=int, default=500, help="clients that are made and closed (default 500)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    wanted = parser.parse_args(arguments)
    with instant_server() as url:
        tracemalloc.start()
        grown = asyncio.run(_Endurance(url).run(wanted.calls, wanted.streams, wanted.clients))
    if wanted.json:
        print(json.dumps([asdict(growth) for growth in grown], indent=2))
        return
    for growth in grown:
        each = growth.bytes / growth.times
        print(
            f"{growth.times:>7,} more {growth.work}: {growth.bytes:+,} bytes ({each:+.1f} each), "
            f"{growth.objects:+,} objects, {growth.sockets:+} sockets, {growth.tasks:+} tasks, {growth.held} reserved"
        )


class _Endurance:
    def __init__(self, url: str) -> None:
        self._url = url
        self._ledger = LocalLedger()

    async def run(self, calls: int, streams: int, clients: int) -> list[Growth]:
        llm = self._client()
        return [
            await self._halves("calls", calls, lambda: self._call(llm), llm.aclose),
            await self._halves("cancelled streams", streams, lambda: self._left_stream(llm), llm.aclose),
            await self._halves("clients", clients, self._one_client, llm.aclose),
        ]

    def _client(self) -> LLMClient:
        return LLMClient("openai", "key", base_url=self._url, cost_tracker=self._ledger)

    async def _halves(
        self, work: str, times: int, once: Callable[[], Awaitable[None]], close: Callable[[], Awaitable[None]]
    ) -> Growth:
        half = max(1, times // 2)
        await _repeat(once, max(_CONCURRENCY, half // 5))  # caches and lazy imports
        await close()  # how many connections wait to be used again is chance
        idle = _sockets()
        await _repeat(once, half)
        await close()
        before = await _size()
        await _repeat(once, half)
        await close()
        after = await _size()
        return Growth(
            work,
            half,
            bytes=after.bytes - before.bytes,
            objects=after.objects - before.objects,
            sockets=after.sockets - idle,
            tasks=after.tasks,
            held=len(self._ledger._holds),  # noqa: SLF001 (what is left in it is the question)
        )

    async def _call(self, llm: LLMClient) -> None:
        await llm.chat("Hi", _MODEL, max_tokens=1000)

    async def _left_stream(self, llm: LLMClient) -> None:
        """Cancelled by another task after its first piece, when it is anywhere between there and its end."""
        begun = asyncio.Event()

        async def read() -> None:
            async with llm.stream("Hi", _MODEL, max_tokens=1000) as stream:
                async for _ in stream:
                    begun.set()
                    await asyncio.sleep(0)

        task = asyncio.create_task(read())
        await begun.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def _one_client(self) -> None:
        async with self._client() as llm:
            await self._call(llm)


async def _repeat(once: Callable[[], Awaitable[None]], times: int) -> None:
    left = iter(range(times))

    async def worker() -> None:
        for _ in left:
            await once()

    await asyncio.gather(*(worker() for _ in range(_CONCURRENCY)))


async def _size() -> _Size:
    # What was closed just now leaves the loop in its next turns.
    for _ in range(20):
        await asyncio.sleep(0.01)
    gc.collect()
    return _Size(
        bytes=tracemalloc.get_traced_memory()[0],
        objects=len(gc.get_objects()),
        sockets=_sockets(),
        tasks=len(asyncio.all_tasks()) - 1,
    )


def _sockets() -> int:
    files = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 (numbers)
    return sum(str(file.readlink()).startswith("socket:") for file in files if file.is_symlink())
