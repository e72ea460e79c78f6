"""Limits of a client, as the provider sees them."""

import asyncio

import pytest

from llm_common.exceptions import AllModelsFailed, BudgetExceededError, InvalidInputError, LimitReachedError, LLMError
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import BreakerPolicy, Breakers
from llm_common.llm.limits.local import LocalLimits
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import Limits, LLMClient
from llm_common.models import Budget, Usage
from llm_common.profiles import Profiles
from llm_common.shared_limits import SharedLimits
from llm_common.testing import Fault, Reply

MODEL = "zai/glm-5.3"
SECOND = "openai/gpt-6-luna"


@pytest.fixture
def provider(fake_provider_env):
    return fake_provider_env


@pytest.fixture
def ledger():
    return LocalLedger()


@pytest.fixture
async def client(provider, ledger):
    made = []

    def make(limits, **options):
        options = {"cost_tracker": ledger, "breakers": Breakers(), "retry": RetryPolicy(base_wait=0.01), **options}
        made.append(LLMClient(model=MODEL, limits=limits, **options))
        return made[-1]

    yield make
    for llm in made:
        await llm.aclose()


@pytest.mark.parametrize("key", ["zai", MODEL])
async def test_the_provider_never_has_more_at_once(client, provider, key):
    """By the provider's name or by the model's; without the limit all would arrive together."""
    llm, counters = client({key: Limits(concurrency=2)}, limiter=(limits := LocalLimits())), []
    provider.script(*[Reply(text="Yes.", delay=0.02)] * 8)
    calls = [asyncio.create_task(llm.chat("Is it?")) for _ in range(8)]
    while not all(call.done() for call in calls):
        counters.append(sum(request.outcome == "open" for request in provider.requests))
        await asyncio.sleep(0.002)
    assert [call.result() for call in calls] == ["Yes."] * 8
    assert max(counters) == 2
    assert limits.in_flight(key) == 0


async def test_without_limits_all_arrive_together(client, provider):
    """The control."""
    llm = client(None)
    provider.script(*[Fault.stall()] * 8)
    calls = [asyncio.create_task(llm.chat("Is it?")) for _ in range(8)]
    while len(provider.requests) < 8:
        await asyncio.sleep(0.01)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_requests_per_minute_stop_what_cannot_go_in_time(client, provider, ledger):
    """The burst goes; the rest is refused at once with its moment, unsent, unpaid, and no fault of the provider's."""
    breakers = Breakers(BreakerPolicy(threshold=1))
    llm = client({"zai": Limits(requests_per_minute=20)}, breakers=breakers)
    results = await asyncio.gather(*(llm.chat("Is it?", timeout=2) for _ in range(6)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, LimitReachedError)]
    assert (len(provider.requests), len(refused)) == (2, 4)
    assert {(error.limit, error.provider, error.model) for error in refused} == {
        ("zai/requests_per_minute", "zai", MODEL)
    }
    assert all(error.retry_after > 2 and error.attempts == () for error in refused)
    assert llm.health() == {}
    assert ledger._holds == {}


@pytest.mark.parametrize("kind", ["own", "shared"])
async def test_no_request_is_sent_to_be_cut_off(client, provider, db, kind):
    """One whose turn would come with the last seconds of its time is not waited for: it would be paid for in vain."""
    llm = client({"zai": Limits(requests_per_minute=1)}, limiter=LocalLimits() if kind == "own" else SharedLimits(db))
    await llm.chat("Is it?")
    with pytest.raises(LimitReachedError, match=r"may go in \d+.* can wait for only 4\d\.?\d* more"):
        await llm.chat("Is it?", timeout=61)
    assert len(provider.requests) == 1


async def test_the_next_model_is_asked_where_a_limit_is_reached(client, provider):
    """What the first cannot take in time, the second answers; where all are at their limits, the error has each."""
    llm = client({"zai": Limits(requests_per_minute=1), SECOND: Limits(requests_per_minute=1)})
    chain = {"models": [MODEL, SECOND], "timeout": 5}
    assert [(await llm.complete("Is it?", **chain)).model for _ in range(2)] == [MODEL, SECOND]
    with pytest.raises(AllModelsFailed) as caught:
        await llm.complete("Is it?", **chain)
    assert {type(error) for error in caught.value.errors.values()} == {LimitReachedError}
    assert len(provider.requests) == 2


async def test_a_retry_waits_for_a_turn_of_its_own(client, provider):
    """Each request counts, not each call."""
    llm = client({"zai": Limits(requests_per_minute=1)})
    provider.script(Fault.server_error(500), "never asked for")
    with pytest.raises(LimitReachedError) as caught:
        await llm.chat("Is it?", timeout=5)
    assert len(provider.requests) == 1
    assert [attempt.status for attempt in caught.value.attempts] == [500]


async def test_a_stream_holds_its_slot_until_it_is_closed(client, provider):
    """Open, left, cut and refused streams give their slots back, and none of them before its end."""
    limits = LocalLimits()
    llm = client({"zai": Limits(concurrency=1)}, limiter=limits)
    provider.script(Reply(text="a b", pieces=("a ", "b")), Fault.cut_stream(after_chunks=1), Fault.unauthorized())
    async with llm.stream("Count!") as stream:
        assert limits.in_flight("zai") == 1
        async for _ in stream:
            assert limits.in_flight("zai") == 1
        assert limits.in_flight("zai") == 0
    for _ in range(2):
        with pytest.raises(LLMError):
            async with llm.stream("Count!") as stream:
                async for _ in stream:
                    pass
        assert limits.in_flight("zai") == 0
    async with llm.stream("Count!"):
        assert limits.in_flight("zai") == 1
    assert limits.in_flight("zai") == 0


async def test_a_call_cancelled_in_line_costs_nothing(client, provider, ledger):
    """It took no slot, no money, and its place in the line is gone."""
    limits = LocalLimits()
    llm = client({"zai": Limits(concurrency=1)}, limiter=limits)
    provider.script(Fault.stall())
    holder = asyncio.create_task(llm.chat("Is it?", max_tokens=10))
    await provider.arrived()
    waiter = asyncio.create_task(llm.chat("Is it?", max_tokens=10))
    while not limits.waiting:
        await asyncio.sleep(0)
    assert len(ledger._holds) == 1
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert ledger.spent_today_nano == 0
    holder.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holder
    assert (limits.in_flight("zai"), limits.waiting, len(provider.requests)) == (0, 0, 1)
    assert ledger.spent_today_nano > 0


async def test_a_refused_budget_gives_the_turn_back(client, provider):
    """Nothing was sent, so nothing counts."""
    limits = LocalLimits()
    llm = client({"zai": Limits(concurrency=1, requests_per_minute=1)}, limiter=limits)
    with pytest.raises(BudgetExceededError):
        await llm.complete("Is it?", ledger=LocalLedger([Budget(limit_usd="0.000001")]))
    assert limits.in_flight("zai") == 0
    assert await llm.chat("Is it?", timeout=5)


async def test_tokens_are_guessed_first_and_counted_afterwards(client, provider):
    """The guess lets the first go; its true usage makes the next one wait too long."""
    llm = client({"zai": Limits(tokens_per_minute=10_000)})
    provider.script(Reply(text="Yes.", usage=Usage(input_tokens=5_000, output_tokens=4_000)), Reply(text="Yes."))
    await llm.chat("Is it?", max_tokens=50)
    with pytest.raises(LimitReachedError, match="tokens_per_minute=10000"):
        await llm.chat("Is it?", max_tokens=50, timeout=5)
    assert len(provider.requests) == 1


async def test_texts_for_vectors_wait_for_their_turn_too(client, provider, ledger):
    """Each batch is a request; what does not fit in time is refused, and only what was sent is paid."""
    llm = client({"openai": Limits(requests_per_minute=1)})
    with pytest.raises(LimitReachedError):
        await llm.embed(["a", "b"], "openai/text-embedding-3-small", batch_size=1, timeout=5)
    assert len(provider.requests) == 1
    assert ledger._holds == {}
    assert ledger.spent_today_nano > 0


async def test_a_profiles_limits_bind_beside_the_clients_own(client, provider, tmp_path):
    """A profile's calls are held to its limits, other calls are not; what cannot be in time is refused unsent."""
    (tmp_path / "llm_common.toml").write_text("[profiles.slow]\nrequests_per_minute = 1\n")
    profiles = Profiles(tmp_path / "llm_common.toml", environ={})
    llm = client({"zai": Limits(concurrency=5)}, profiles=profiles)
    await llm.chat("Is it?", profile="slow", timeout=5)
    with pytest.raises(LimitReachedError, match="profile slow"):
        await llm.chat("Is it?", profile="slow", timeout=5)
    await llm.chat("Is it?", timeout=5)
    assert len(provider.requests) == 2


def test_limits_are_checked_when_they_are_made():
    """A client with limits that are none is not made."""
    with pytest.raises(InvalidInputError, match="concurrency"):
        Limits(concurrency=0)
