"""`complete_many` against real HTTP: bounded, in order, each question for itself."""

import asyncio
from decimal import Decimal

import pytest

from llm_common.exceptions import BudgetExceededError, InvalidInputError, QuotaExhaustedError
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import Breakers
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import LLMClient, Request
from llm_common.models import Budget
from llm_common.testing import ChatRequest, FakeProvider, Fault, Reply

MODEL = "zai/glm-5.3"
SECOND = "openai/gpt-6-luna"


@pytest.fixture
def provider(fake_provider_env):
    return fake_provider_env


@pytest.fixture
def ledger():
    return LocalLedger((Budget(Decimal(10)),))


@pytest.fixture
async def llm(provider, ledger):
    async with LLMClient(
        cost_tracker=ledger, model=MODEL, retry=RetryPolicy(base_wait=0.01), breakers=Breakers()
    ) as client:
        yield client


async def test_results_are_in_the_order_of_the_questions(monkeypatch, ledger):
    """The last answer comes first, and still stands last."""

    def answer(request: ChatRequest) -> Reply:
        number = int(request.last_user_text)
        return Reply(text=f"answer {number}", delay=0.02 * (5 - number))

    async with FakeProvider(answer=answer) as provider:
        for name, value in provider.environment().items():
            monkeypatch.setenv(name, value)
        async with LLMClient(cost_tracker=ledger, model=MODEL) as llm:
            results = await llm.complete_many([str(number) for number in range(5)])
    assert [result.answer().text for result in results] == [f"answer {number}" for number in range(5)]
    assert [result.position for result in results] == list(range(5))


async def test_no_more_than_concurrency_are_in_flight(llm, provider):
    """Of six stalled questions two are sent; the others wait for them."""
    provider.script(*[Fault.stall()] * 6)
    task = asyncio.create_task(llm.complete_many(["Is it?"] * 6, concurrency=2, max_tokens=10))
    await provider.arrived(2)
    await asyncio.sleep(0.1)
    assert len(provider.requests) == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_failure_sinks_nobody_else(llm, provider):
    """A refused question, one that cannot be asked, and one with a wrong argument stand beside answers."""
    provider.script("first", Fault.zai_error(1113), "last")
    items = ["one", "two", "   ", Request("three", {"model": MODEL, "models": [MODEL]}), "four"]
    results = await llm.complete_many(items, concurrency=1)
    assert [type(result.error) for result in results] == [
        type(None),
        QuotaExhaustedError,
        InvalidInputError,
        InvalidInputError,
        type(None),
    ]
    assert (results[0].answer().text, results[4].answer().text) == ("first", "last")
    with pytest.raises(QuotaExhaustedError):
        results[1].answer()


async def test_a_request_brings_its_own_arguments(llm, provider):
    """Shared arguments hold for all, a request's own win; its model replaces the shared chain."""
    provider.script("ok", "ok")
    shared_chain = [SECOND, MODEL]
    await llm.complete_many(
        ["plain", Request("own", {"model": MODEL, "max_tokens": 77})], models=shared_chain, max_tokens=99, concurrency=1
    )
    sent = [(request.provider, request.body["max_tokens"]) for request in provider.requests]
    assert sent == [("openai", 99), ("zai", 77)]


async def test_cancelling_cancels_all_and_settles_all(llm, provider, ledger):
    """Each question in flight is charged at its bound, since the provider may bill it; nothing stays reserved."""
    provider.script(*[Fault.stall()] * 3)
    task = asyncio.create_task(llm.complete_many(["Is it?"] * 5, concurrency=3, max_tokens=1000))
    await provider.arrived(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    spent = Decimal(ledger.spent_today_nano).scaleb(-9)
    assert 3 * Decimal("0.0044") < spent < 3 * Decimal("0.0060")
    assert ledger._holds == {}
    await provider.settled()
    assert [request.client_left for request in provider.requests] == [True] * 3


async def test_a_budget_holds_across_all_of_them(provider):
    """What fits is answered, the rest is refused before it is sent."""
    llm = LLMClient(model=MODEL, budget_limit_usd="0.015", cost_tracker=LocalLedger())
    provider.script(*[Reply(text="Yes.", delay=0.2)] * 10)
    results = await llm.complete_many(["Is it?"] * 10, concurrency=10, max_tokens=1000)
    refused = [result for result in results if isinstance(result.error, BudgetExceededError)]
    assert len(refused) == 7
    assert len(provider.requests) == 3
    await llm.aclose()


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_each_result_is_told_as_it_comes(llm, provider, kind):
    """Failures too, with how many of how many are done."""
    heard = []

    def plain(result, done, total):
        heard.append((result.error is None, done, total))

    async def slow(result, done, total):
        await asyncio.sleep(0)
        plain(result, done, total)

    provider.script("one", Fault.zai_error(1113))
    await llm.complete_many(["a", "b"], concurrency=1, on_result=plain if kind == "plain" else slow)
    assert heard == [(True, 1, 2), (False, 2, 2)]


async def test_a_broken_listener_loses_no_answer(llm, provider, caplog):
    """What it raises is logged."""

    def broken(result, done, total):
        raise RuntimeError("no screen")

    results = await llm.complete_many(["a", "b"], on_result=broken)
    assert all(result.completion for result in results)
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError] * 2


@pytest.mark.parametrize(("items", "arguments"), [("one prompt", {}), (["a"], {"concurrency": 0})])
async def test_what_makes_no_sense_is_refused(llm, provider, items, arguments):
    """A single prompt is not a list of letters."""
    with pytest.raises(InvalidInputError):
        await llm.complete_many(items, **arguments)
    assert provider.requests == []


async def test_no_questions_no_answers(llm, provider):
    """An empty list is no error."""
    assert await llm.complete_many([]) == []
