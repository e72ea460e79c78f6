import asyncio
import logging

import pytest

from llm_common._runtime.outage import Outage
from llm_common.exceptions import BudgetExceededError, DatabaseError, DatabaseUnavailableError


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Dependency:
    def __init__(self):
        self.calls = 0
        self.error = None

    async def __call__(self):
        self.calls += 1
        if self.error:
            raise self.error
        return "ok"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def outage(clock):
    return Outage("the thing", "we go on", patience=0.02, pause=5.0, clock=clock)


async def failing(outage, dependency):
    with pytest.raises(DatabaseError):
        await outage.call(dependency)


async def test_while_it_is_down_nobody_asks(outage, clock):
    """One failure, then silence for the pause, then one try."""
    dependency = Dependency()
    dependency.error = DatabaseUnavailableError("down")
    for _ in range(5):
        await failing(outage, dependency)
    assert dependency.calls == 1
    clock.now = 5.0
    await asyncio.gather(*(failing(outage, dependency) for _ in range(5)))
    assert dependency.calls == 2


async def test_it_recovers_by_itself(outage, clock):
    """One success is enough."""
    dependency = Dependency()
    dependency.error = DatabaseError("no such function")
    await failing(outage, dependency)
    dependency.error, clock.now = None, 5.0
    assert await outage.call(dependency) == "ok"
    assert not outage.is_down
    assert await outage.call(dependency) == "ok"


async def test_a_last_call_is_made_all_the_same(outage, clock):
    """Within the pause, and with more patience; its success ends the outage for all."""
    dependency = Dependency()
    dependency.error = DatabaseUnavailableError("down")
    await failing(outage, dependency)
    with pytest.raises(DatabaseUnavailableError):
        await outage.last_call(dependency)
    dependency.error = None

    async def slow():
        await asyncio.sleep(0.03)
        return await dependency()

    assert await outage.last_call(slow) == "ok"
    assert dependency.calls == 3
    assert not outage.is_down


async def test_an_outage_is_logged_once(outage, clock, caplog):
    """However often it fails in between."""
    dependency = Dependency()
    dependency.error = DatabaseError("no such function")
    with caplog.at_level(logging.WARNING, "llm_common"):
        for moment in (0.0, 5.0, 11.0):
            clock.now = moment
            await failing(outage, dependency)
    assert dependency.calls == 3
    assert [record.getMessage() for record in caplog.records] == [
        "the thing fails; we go on until it is back: no such function"
    ]


async def test_a_slow_answer_is_not_waited_for(outage):
    """Even from a driver that takes its time to give up."""

    async def hangs():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)

    with pytest.raises(DatabaseUnavailableError, match=r"no answer within 0\.02 s"):
        await outage.call(hangs)
    assert outage.is_down
    await asyncio.sleep(0.02)


async def test_a_refusal_is_an_answer(outage):
    """A budget that says no does not mean that the database is down."""
    dependency = Dependency()
    dependency.error = BudgetExceededError("no")
    with pytest.raises(BudgetExceededError):
        await outage.call(dependency)
    assert not outage.is_down
