import asyncio

import pytest

from llm_common._runtime.single_flight import SingleFlight
from llm_common.exceptions import SearchError


def closed():
    return SearchError("closed")


class Fetch:
    def __init__(self, error=None):
        self.started = 0
        self.release = asyncio.Event()
        self.error = error

    async def __call__(self):
        self.started += 1
        await self.release.wait()
        if self.error:
            raise self.error
        return "answer"


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


async def test_two_hundred_callers_fetch_once():
    """They all get the one answer."""
    flights, fetch = SingleFlight(closed), Fetch()
    callers = [asyncio.create_task(flights.run("k", fetch)) for _ in range(200)]
    await until(lambda: fetch.started)
    fetch.release.set()
    assert set(await asyncio.gather(*callers)) == {"answer"}
    assert fetch.started == 1


async def test_a_cancelled_leader_takes_nobody_along():
    """Nor does a cancelled follower; the fetch goes on for the rest."""
    flights, fetch = SingleFlight(closed), Fetch()
    leader, follower, other = (asyncio.create_task(flights.run("k", fetch)) for _ in range(3))
    await until(lambda: fetch.started)
    leader.cancel()
    other.cancel()
    await asyncio.wait({leader, other})
    fetch.release.set()
    assert await follower == "answer"
    assert (leader.cancelled(), other.cancelled(), fetch.started) == (True, True, 1)


async def test_an_error_reaches_everybody_and_is_not_kept():
    """The next caller tries anew."""
    flights, fetch = SingleFlight(closed), Fetch(SearchError("no"))
    callers = [asyncio.create_task(flights.run("k", fetch)) for _ in range(3)]
    await until(lambda: fetch.started)
    fetch.release.set()
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(outcome, SearchError) for outcome in outcomes)
    with pytest.raises(SearchError):
        await flights.run("k", fetch)
    assert fetch.started == 2


async def test_a_flight_that_all_have_left_lands():
    """What was sent is paid for, so its result is not thrown away; closing waits for it."""
    flights, fetch = SingleFlight(closed), Fetch()
    caller = asyncio.create_task(flights.run("k", fetch))
    await until(lambda: fetch.started)
    flight = flights.under_way("k")
    caller.cancel()
    await asyncio.wait({caller})
    fetch.release.set()
    await flights.aclose()
    assert flight.result() == "answer"


async def test_after_forgetting_later_callers_fetch_anew():
    """Those who waited already get what was under way."""
    flights, old, new = SingleFlight(closed), Fetch(), Fetch()
    early = asyncio.create_task(flights.run("k", old))
    await until(lambda: old.started)
    flights.forget()
    late = asyncio.create_task(flights.run("k", new))
    await until(lambda: new.started)
    old.release.set()
    assert await early == "answer"
    assert flights.under_way("k") is not None
    new.release.set()
    await late


async def test_callers_of_a_closed_flight_are_told():
    """They get an error, not a cancellation that nobody asked for."""
    flights, fetch = SingleFlight(closed), Fetch()
    caller = asyncio.create_task(flights.run("k", fetch))
    await until(lambda: fetch.started)
    flights.under_way("k").cancel()
    with pytest.raises(SearchError, match="closed"):
        await caller


async def test_a_fetch_that_is_wanted_by_nobody_is_cancelled():
    """It goes on while one caller is left, and the last who leaves waits until it has ended."""
    flights, ended = SingleFlight(closed), []

    async def fetch():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append(True)

    first, second = [asyncio.create_task(flights.run_while_wanted("k", fetch)) for _ in range(2)]
    await until(lambda: flights.under_way("k"))
    first.cancel()
    await asyncio.wait({first})
    assert not ended
    assert flights.under_way("k") is not None
    second.cancel()
    await asyncio.wait({second})
    assert ended
    assert flights.under_way("k") is None


async def test_a_wanted_fetch_gives_its_answer_to_all():
    """As `run` does."""
    flights, fetch = SingleFlight(closed), Fetch()
    callers = [asyncio.create_task(flights.run_while_wanted("k", fetch)) for _ in range(20)]
    await until(lambda: fetch.started)
    callers[0].cancel()
    await asyncio.wait({callers[0]})
    fetch.release.set()
    assert set(await asyncio.gather(*callers[1:])) == {"answer"}
    assert fetch.started == 1
