import asyncio

import pytest

from llm_common._runtime.shielding import uninterrupted


async def test_the_result_and_the_error_come_through():
    """Without a cancellation it is a plain await."""

    async def good() -> int:
        return 7

    async def bad() -> None:
        raise ValueError("no")

    assert await uninterrupted(good()) == 7
    with pytest.raises(ValueError, match="no"):
        await uninterrupted(bad())


@pytest.mark.parametrize("times", [1, 3])
async def test_the_work_is_finished_before_a_cancellation_is_raised(times):
    """However often the task is cancelled, the work runs to its end first, and then the task is cancelled."""
    done, go = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    task = asyncio.create_task(uninterrupted(work()))
    for _ in range(times):
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()


async def test_a_failure_of_the_work_is_told_with_the_cancellation():
    """The task is cancelled, and what went wrong with the work is its cause."""

    async def work() -> None:
        await asyncio.sleep(0.01)
        raise ValueError("not settled")

    task = asyncio.create_task(uninterrupted(work()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, ValueError)
