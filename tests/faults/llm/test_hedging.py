"""A second request beside a slow one: who wins, what is cancelled, and that both are paid."""

import asyncio
from decimal import Decimal

import psycopg
import pytest

from llm_common.cost_tracker import CostTracker
from llm_common.exceptions import AllModelsFailed, AuthenticationError, InvalidInputError
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import Breakers
from llm_common.llm.limits.local import LocalLimits
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import Limits, LLMClient
from llm_common.models import Budget, Usage
from llm_common.testing import Fault, Reply

MODEL = "zai/glm-5.3"
SECOND = "openai/gpt-6-luna"
THIRD = "openai/gpt-4o-mini"
USAGE = Usage(input_tokens=100, output_tokens=50)
SLOW = 60.0


@pytest.fixture
def provider(fake_provider_env):
    return fake_provider_env


@pytest.fixture
def ledger():
    return LocalLedger()


@pytest.fixture
async def llm(provider, ledger):
    async with LLMClient(
        cost_tracker=ledger, model=MODEL, retry=RetryPolicy(base_wait=0.01), breakers=Breakers()
    ) as client:
        yield client


def asked(provider) -> list[str]:
    return [request.body["model"] for request in provider.requests]


def spent(ledger) -> Decimal:
    return Decimal(ledger.spent_today_nano).scaleb(-9)


async def test_the_next_model_answers_for_a_slow_one(llm, ledger, provider):
    """The slow request's connection is closed at once, and what it may have cost is paid beside the answer."""
    provider.script(Reply(text="late", delay=SLOW), Reply(text="Yes.", usage=USAGE))
    completion = await llm.complete("Is it?", models=[MODEL, SECOND], hedge_after=0.05, max_tokens=1000)
    await provider.settled()
    assert (completion.text, completion.model, completion.provider) == ("Yes.", SECOND, "openai")
    slow, fast = provider.requests
    assert (slow.client_left, fast.client_left) == (True, False)
    assert {attempt.model: attempt.error for attempt in completion.attempts} == {
        SECOND: None,
        MODEL: "CancelledError: another request answered first",
    }
    estimate = next(attempt.cost_usd for attempt in completion.attempts if attempt.model == MODEL)
    assert estimate > Decimal("0.0044")  # 1,000 output tokens of the slow one
    assert completion.cost_usd == sum(attempt.cost_usd for attempt in completion.attempts) == spent(ledger)
    assert completion.price_source == "estimate"
    assert ledger._holds == {}


async def test_a_quick_answer_has_no_rival(llm, provider):
    """Nothing else is asked before `hedge_after`."""
    assert await llm.chat("Is it?", hedge_after=30.0)
    assert await llm.chat_with_fallback("Is it?", [MODEL, SECOND], hedge_after=30.0)
    assert asked(provider) == ["glm-5.3"] * 2


async def test_the_slow_one_may_still_win(llm, ledger, provider):
    """Then the second is the one that is cancelled."""
    provider.script(Reply(text="Yes.", delay=0.4, usage=USAGE), Reply(text="later", delay=SLOW))
    completion = await llm.complete("Is it?", models=[MODEL, SECOND], hedge_after=0.05, max_tokens=1000)
    await provider.settled()
    assert (completion.text, completion.model) == ("Yes.", MODEL)
    assert [request.client_left for request in provider.requests] == [False, True]
    assert completion.cost_usd == spent(ledger)


async def test_one_model_is_asked_again(llm, ledger, provider):
    """Where there is no other."""
    provider.script(Reply(text="late", delay=SLOW), Reply(text="Yes.", usage=USAGE))
    completion = await llm.complete("Is it?", hedge_after=0.05, max_tokens=1000)
    assert (completion.text, len(completion.attempts), asked(provider)) == ("Yes.", 2, ["glm-5.3"] * 2)
    assert completion.cost_usd == spent(ledger)


async def test_the_ledger_has_one_row_for_both(provider, dsn, db):
    """In the name of the one that answered, with the sum, both attempts, and nothing left reserved."""
    tracker = CostTracker(db, project="p")
    async with LLMClient(cost_tracker=tracker, breakers=Breakers()) as llm:
        provider.script(Reply(text="late", delay=SLOW), Reply(text="Yes.", usage=USAGE))
        completion = await llm.complete("Is it?", models=[MODEL, SECOND], hedge_after=0.05, max_tokens=1000)
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        rows = await connection.execute("SELECT model, provider, status, cost_usd, attempts FROM cost_tracking")
        assert await rows.fetchall() == [(SECOND, "openai", "ok", completion.cost_usd, 2)]
        assert await (await connection.execute("SELECT * FROM cost_reservations")).fetchall() == []
        assert await (await connection.execute("SELECT * FROM check_cost_ledger('p')")).fetchall() == []


async def test_a_budget_that_does_not_cover_both_means_no_second(provider):
    """The first goes on, and is the only one that is sent. With room for both, both are."""
    for limit, sent in (("0.006", 1), ("0.02", 2)):
        ledger, before = LocalLedger([Budget(Decimal(limit))]), len(provider.requests)
        async with LLMClient(cost_tracker=ledger, breakers=Breakers()) as llm:
            provider.script(Reply(text="Yes.", delay=0.4, usage=USAGE), endpoint="chat")
            completion = await llm.complete("Is it?", MODEL, hedge_after=0.05, max_tokens=1000)
        assert completion.text
        assert len(provider.requests) - before == sent
        assert spent(ledger) == completion.cost_usd <= Decimal(limit)


async def test_the_budget_of_the_second_model_counts_too(provider):
    """Its own limit refuses it; the model after it is not asked in its place, and stays for a fallback."""
    ledger = LocalLedger([Budget(Decimal("0.000001"), scope="model", value=SECOND)])
    async with LLMClient(cost_tracker=ledger, breakers=Breakers()) as llm:
        provider.script(Reply(text="Yes.", delay=0.4))
        assert await llm.chat_with_fallback("Is it?", [MODEL, SECOND, THIRD], hedge_after=0.05) == "Yes."
    assert asked(provider) == ["glm-5.3"]


async def test_a_failure_before_the_time_is_retried_as_ever(llm, provider):
    """Retries and fallbacks go on as without hedging."""
    provider.script(Fault.server_error(500), Fault.zai_error(1113), "Yes.")
    assert await llm.chat_with_fallback("Is it?", [MODEL, SECOND], hedge_after=30.0) == "Yes."
    assert asked(provider) == ["glm-5.3"] * 2 + ["gpt-6-luna"]


async def test_a_second_that_fails_leaves_the_first_alone(llm, provider):
    """Whatever its error; also a refused key, which without hedging nobody would have met."""
    provider.script(Reply(text="Yes.", delay=0.4), Fault.unauthorized())
    assert await llm.chat_with_fallback("Is it?", [MODEL, SECOND], hedge_after=0.05) == "Yes."
    assert asked(provider) == ["glm-5.3", "gpt-6-luna"]


async def test_a_first_that_fails_leaves_the_second_and_goes_on_to_the_third(llm, provider):
    """A model that is being asked already is not asked twice."""
    provider.script(Fault.zai_error(1113).delayed(0.3), Reply(text="late", delay=SLOW), "Yes.")
    completion = await llm.complete("Is it?", models=[MODEL, SECOND, THIRD], hedge_after=0.05, max_tokens=100)
    assert (completion.text, completion.model) == ("Yes.", THIRD)
    assert asked(provider) == ["glm-5.3", "gpt-6-luna", "gpt-4o-mini"]


async def test_the_callers_own_mistake_ends_both(llm, ledger, provider):
    """A refused key of the first is not hidden by the second's answer."""
    provider.script(Fault.unauthorized().delayed(0.3), Reply(text="late", delay=SLOW))
    with pytest.raises(AuthenticationError) as caught:
        await llm.complete("Is it?", models=[MODEL, SECOND], hedge_after=0.05, max_tokens=100)
    await provider.settled()
    assert provider.requests[1].client_left
    assert len(caught.value.attempts) == 2
    assert caught.value.cost_usd == spent(ledger) > 0


async def test_when_both_fail_the_error_has_both(llm, provider):
    """With every attempt."""
    provider.script(Fault.zai_error(1113).delayed(0.2), Fault.payment_required().delayed(0.4))
    with pytest.raises(AllModelsFailed) as caught:
        await llm.complete("Is it?", models=[MODEL, SECOND], hedge_after=0.05)
    assert set(caught.value.errors) == {MODEL, SECOND}
    assert len(caught.value.attempts) == 2


async def test_cancelling_the_call_cancels_and_charges_both(llm, ledger, provider):
    """Both connections are closed, and both may be billed."""
    provider.script(*[Reply(text="late", delay=SLOW)] * 2)
    task = asyncio.create_task(llm.chat("Is it?", hedge_after=0.05, max_tokens=1000))
    while len(provider.requests) < 2:
        assert not task.done()
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await provider.settled()
    assert all(request.client_left for request in provider.requests)
    assert Decimal("0.0088") < spent(ledger) < Decimal("0.0120")
    assert ledger._holds == {}


async def test_a_first_that_waits_in_line_gives_way_to_the_next_model(provider, ledger):
    """And where there is no other model, nobody stands in line twice."""
    limits = LocalLimits()
    options = {"cost_tracker": ledger, "breakers": Breakers(), "limits": {"zai": Limits(concurrency=1)}}
    async with LLMClient(model=MODEL, limiter=limits, **options) as llm:
        provider.script(Reply(text="late", delay=SLOW), "Yes.")
        holder = asyncio.create_task(llm.chat("Is it?", max_tokens=100))
        await provider.arrived()
        assert await llm.chat_with_fallback("Is it?", [MODEL, SECOND], hedge_after=0.05) == "Yes."
        alone = asyncio.create_task(llm.chat("Is it?", hedge_after=0.02))
        await asyncio.sleep(0.2)
        assert limits.waiting == 1
        for task in (alone, holder):
            task.cancel()
        await asyncio.gather(alone, holder, return_exceptions=True)
    assert (limits.waiting, limits.in_flight("zai")) == (0, 0)


@pytest.mark.parametrize("seconds", [0, -1])
async def test_a_time_that_is_none_is_refused(llm, provider, seconds):
    """Nothing is sent."""
    with pytest.raises(InvalidInputError, match="hedge_after"):
        await llm.chat("Is it?", hedge_after=seconds)
    with pytest.raises(InvalidInputError, match="hedge_after"):
        llm.stream("Is it?", hedge_after=1.0)
    assert provider.requests == []
