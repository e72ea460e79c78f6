"""`python -m benchmarks.contestants NAME URL CALLS STREAMS CONCURRENCY` prints what NAME took, as JSON.

With CALLS = 0 it makes its first call and no other: for the time from a process's start to its first answer.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median

from benchmarks.contestants import CONTESTANTS
from benchmarks.contestants.task import Client
from benchmarks.instant_server import ANSWER, IMPACTS


async def _check_call(client: Client) -> None:
    assert client.call is not None
    if await client.call() != ANSWER:
        raise RuntimeError("this is not the whole answer")


async def _check_structured(client: Client) -> None:
    assert client.structured is not None
    if len((await client.structured()).impacts) != IMPACTS:
        raise RuntimeError("these are not all impacts")


async def _check_stream(client: Client) -> None:
    assert client.stream is not None
    if "".join([piece async for piece in client.stream()]) != ANSWER:
        raise RuntimeError("this is not the whole stream")


async def _cost(work: Callable[[], Awaitable[None]], times: int, concurrency: int) -> tuple[float, float]:
    """Milliseconds of CPU and of the clock for each time, after a first time that warms everything up."""

    async def worker(share: int) -> None:
        for _ in range(share):
            await work()

    await asyncio.gather(*(worker(1) for _ in range(concurrency)))
    # One collection of all that the imports left takes LiteLLM's processes 0.4 s, as much as 100 calls. Whether it
    # falls into the measured time is luck, so it is done before, for everybody.
    gc.collect()
    gc.freeze()
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker(times // concurrency) for _ in range(concurrency)))
    done = times // concurrency * concurrency
    return (time.process_time() - cpu) * 1000 / done, (time.perf_counter() - wall) * 1000 / done


async def _first_piece(client: Client, times: int) -> float:
    """Milliseconds of the clock until a stream's first piece, one stream at a time; the median.

    Of at least `times` streams, and of as many more as a second has room for: the clock also sees what else the
    machine does, and a cheap client's few milliseconds would be over before that has passed.
    """
    assert client.stream is not None
    waits: list[float] = []
    enough = time.perf_counter() + 1
    while len(waits) < times or time.perf_counter() < enough:
        began, first = time.perf_counter(), 0.0
        async for _piece in client.stream():
            first = first or time.perf_counter() - began
        waits.append(first * 1000)
    return median(waits)


async def measured(name: str, url: str, calls: int, streams: int, concurrency: int) -> dict[str, float]:
    """What is measured of a contestant, by name, for all that it can do."""
    figures: dict[str, float] = {}
    async with CONTESTANTS[name].open(url) as client:
        if client.call:
            figures["call_cpu"], figures["call_wall"] = await _cost(lambda: _check_call(client), calls, concurrency)
        if client.structured:
            cost = await _cost(lambda: _check_structured(client), calls, concurrency)
            figures["structured_cpu"], figures["structured_wall"] = cost
        if client.stream:
            cost = await _cost(lambda: _check_stream(client), streams, min(10, concurrency))
            figures["stream_cpu"], figures["stream_wall"] = cost
            figures["first_piece_wall"] = await _first_piece(client, streams)
    return figures


async def first_answer(name: str, url: str) -> None:
    async with CONTESTANTS[name].open(url) as client:
        await (_check_call(client) if client.call else _check_structured(client))


def main(name: str, url: str, *numbers: str) -> None:
    calls, streams, concurrency = map(int, numbers)
    if calls == 0:
        asyncio.run(first_answer(name, url))
    else:
        print(json.dumps(asyncio.run(measured(name, url, calls, streams, concurrency))))


if __name__ == "__main__":
    main(*sys.argv[1:])
