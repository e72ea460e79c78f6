import asyncio

import pytest

from llm_common._runtime.shielding import pause, run_shielded


async def test_the_result_and_the_error_come_through():
    """Without a cancellation it is a plain await."""

    async def good() -> int:
        return 7

    async def bad() -> None:
        raise ValueError("no")

    assert await run_shielded(good()) == 7
    with pytest.raises(ValueError, match="no"):
        await run_shielded(bad())


@pytest.mark.parametrize("times", [1, 3])
async def test_the_work_is_finished_before_a_cancellation_is_raised(times):
    """However often the task is cancelled, the work runs to its end first, and then the task is cancelled."""
    done, go = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    task = asyncio.create_task(run_shielded(work()))
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

    task = asyncio.create_task(run_shielded(work()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, ValueError)


async def test_work_that_pauses_hears_of_a_cancellation():
    """Also from within shielded work of its own: the pause ends at once and says why, so that it can come to an end."""
    heard: list[bool] = []

    async def work() -> None:
        heard.append(await pause(0.0))
        heard.append(await pause(600.0))

    task = asyncio.create_task(run_shielded(run_shielded(work())))
    while not heard:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard == [False, True]


async def test_a_pause_elsewhere_is_a_sleep():
    """Who is not shielded is cancelled as ever."""
    assert await pause(0.0) is False
    task = asyncio.create_task(pause(600.0))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
