"""Work at once: in order, bounded, and nothing that was begun is thrown away."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from llm_common._runtime.bounded_gather import bounded_gather

Work = Callable[[], Awaitable[int]]


async def test_in_order_and_bounded() -> None:
    """Results come in the order of the work, and never more than allowed is under way."""
    running, most = 0, 0

    def work(number: int) -> Work:
        async def do() -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            for _ in range(10 - number):
                await asyncio.sleep(0)
            running -= 1
            return number

        return do

    assert await bounded_gather([work(number) for number in range(10)], 3) == list(range(10))
    assert most == 3


async def test_an_error_lets_the_others_finish() -> None:
    """After an error what was begun is finished, nothing new is begun, and the first error is raised."""
    begun: list[int] = []
    finished: list[int] = []

    def work(number: int) -> Work:
        async def do() -> int:
            begun.append(number)
            await asyncio.sleep(0)
            if number == 0:
                raise ValueError("the first")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            finished.append(number)
            return number

        return do

    with pytest.raises(ValueError, match="the first"):
        await bounded_gather([work(number) for number in range(6)], 2)
    assert (begun, finished) == ([0, 1], [1])


async def test_cancelling_waits_for_all() -> None:
    """Cancelled, everything under way is cancelled and has ended before the caller hears of it."""
    started, ended = asyncio.Event(), 0

    async def work() -> int:
        nonlocal ended
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended += 1
        return 0

    task = asyncio.ensure_future(bounded_gather([work] * 3, 3))
    await started.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == 3
