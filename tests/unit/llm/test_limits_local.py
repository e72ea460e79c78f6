"""Waiting in line within one process: fair, cancelled at any moment, across event loops and threads."""

import asyncio
import threading

import pytest

from llm_common.exceptions import LimitReachedError
from llm_common.llm.limits.local import LocalLimits
from llm_common.llm.limits.rules import LimitRequest, Limits

ONE = LimitRequest({"zai": Limits(concurrency=1)})


async def start(limits: LocalLimits, claim: LimitRequest, name: str, order: list[str], patience: float = 30.0):
    """A task that waits for its turn; returns once it waits or has it."""

    async def work():
        permit = await limits.acquire(claim, patience=patience)
        order.append(name)
        return permit

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    return task


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_first_come_first_served():
    """Each who ends lets exactly the next one go."""
    limits, order = LocalLimits(), []
    tasks = [await start(limits, ONE, str(n), order) for n in range(4)]
    for n in range(4):
        await settle()
        assert order == [str(m) for m in range(n + 1)]
        await (await tasks[n]).end(None)
    assert (limits.in_flight("zai"), limits.waiting) == (0, 0)


async def test_a_cancelled_waiter_has_taken_nothing():
    """Cancelled in line, or in the very moment in which its turn came."""
    limits, order = LocalLimits(), []
    first, second, third, fourth = [await start(limits, ONE, str(n), order) for n in range(4)]
    second.cancel()
    await settle()
    await (await first).end(None)
    third.cancel()  # it was let go, but has not run yet
    with pytest.raises(asyncio.CancelledError):
        await third
    await (await fourth).end(None)
    assert order == ["0", "3"]
    assert (limits.in_flight("zai"), limits.waiting) == (0, 0)


async def test_a_wait_that_is_too_long_is_not_begun():
    """Those who wait already count too; the refused one is not in line."""
    limits, order = LocalLimits(), []
    claim = LimitRequest({"zai": Limits(requests_per_minute=1)})
    await limits.acquire(claim, patience=1.0)
    waiting = await start(limits, claim, "waits", order, patience=61.0)
    with pytest.raises(LimitReachedError) as caught:
        await limits.acquire(claim, patience=61.0)
    assert caught.value.retry_after == pytest.approx(120, abs=5)
    assert limits.waiting == 1
    waiting.cancel()
    await settle()
    assert limits.waiting == 0


async def test_who_waits_for_a_slot_gives_up_at_the_deadline():
    """Nobody knows when a slot comes free, so it is waited for."""
    limits = LocalLimits()
    permit = await limits.acquire(ONE, patience=1.0)
    with pytest.raises(LimitReachedError, match="concurrency=1 of zai") as caught:
        await limits.acquire(ONE, patience=0.01)
    assert caught.value.retry_after is None
    await permit.end(None)
    await limits.acquire(ONE, patience=0.01)


async def test_a_refill_lets_the_next_go_without_anybody_ending():
    """The timer rings for the first in line, then for the one behind."""
    limits = LocalLimits()
    claim = LimitRequest({"zai": Limits(requests_per_minute=6000)})  # 600 at once, then one in 11 ms
    permits = await asyncio.gather(*(limits.acquire(claim, patience=30.0) for _ in range(610)))
    assert len(permits) == 610


async def test_all_limits_of_a_claim_must_let_it_go():
    """The provider's and the model's; what lacks one takes nothing of the other."""
    limits, order = LocalLimits(), []
    both = LimitRequest({"zai": Limits(concurrency=2), "zai/glm": Limits(concurrency=1)})
    first, second = [await start(limits, both, str(n), order) for n in range(2)]
    assert order == ["0"]
    # The slow model's line does not hold up the provider's other models.
    third = await start(limits, LimitRequest({"zai": Limits(concurrency=2)}), "other", order)
    await settle()
    assert order == ["0", "other"]
    await (await first).end(None)
    # But now it is the older one's turn at the provider as well.
    fourth = await start(limits, LimitRequest({"zai": Limits(concurrency=2)}), "late", order)
    await settle()
    assert order == ["0", "other", "1"]
    for task in (second, third, fourth):
        await (await task).end(None)
    assert order == ["0", "other", "1", "late"]


async def test_nobody_is_passed_for_ever():
    """One that lacked two limits in turn is not starved by those who want only one of them each."""
    limits, order = LocalLimits(), []
    a, b = Limits(concurrency=1), Limits(concurrency=1)
    has_a = await limits.acquire(LimitRequest({"a": a}), patience=1.0)
    wants_both = await start(limits, LimitRequest({"a": a, "b": b}), "both", order)
    has_b = await limits.acquire(LimitRequest({"b": b}), patience=1.0)
    await has_a.end(None)
    await start(limits, LimitRequest({"b": b}), "only b", order)
    next_a = await start(limits, LimitRequest({"a": a}), "only a", order)
    await has_b.end(None)
    await settle()
    assert order == ["both"]
    await (await wants_both).end(None)
    await (await next_a).end(None)


async def test_tokens_are_corrected_by_the_truth():
    """A guess that was too high gives room at once; one that was too low makes the next wait."""
    limits = LocalLimits()
    claim = LimitRequest({"zai": Limits(tokens_per_minute=1000)}, tokens=100)
    await (await limits.acquire(claim, patience=1.0)).end(0)
    await (await limits.acquire(claim, patience=1.0)).give_back()
    await (await limits.acquire(claim, patience=1.0)).end(500)
    with pytest.raises(LimitReachedError, match="tokens_per_minute=1000"):
        await limits.acquire(claim, patience=1.0)


def test_loops_and_threads_share_one_line():
    """Eight threads with a loop each: never more than three at once, and everybody is served."""
    limits, claim = LocalLimits(), LimitRequest({"zai": Limits(concurrency=3)})
    guard, now, most, served = threading.Lock(), 0, 0, 0

    async def work():
        nonlocal now, most, served
        permit = await limits.acquire(claim, patience=60.0)
        with guard:
            now, served = now + 1, served + 1
            most = max(most, now)
        await asyncio.sleep(0.001)
        with guard:
            now -= 1
        await permit.end(None)

    async def many():
        await asyncio.gather(*(work() for _ in range(40)))

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, served, limits.in_flight("zai"), limits.waiting) == (3, 320, 0, 0)
