"""Hooks of a client: what they hear, what they can stop, and that no paid answer hangs on them."""

import asyncio
from decimal import Decimal

import pytest

from llm_common.exceptions import (
    AllModelsFailed,
    InvalidInputError,
    LLMCommonError,
    QuotaExhaustedError,
    RateLimitError,
    StreamInterruptedError,
)
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import Breakers
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import Hooks, LLMClient
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

    def make(**hooks):
        made.append(
            LLMClient(
                cost_tracker=ledger,
                model=MODEL,
                retry=RetryPolicy(base_wait=0.01),
                breakers=Breakers(),
                hooks=Hooks(**hooks),
            )
        )
        return made[-1]

    yield make
    for llm in made:
        await llm.aclose()


async def test_before_and_after_hear_of_a_call(client, provider):
    """Plain and async hooks; the key is nowhere in what they see."""
    heard = []

    async def after(end):
        await asyncio.sleep(0)
        heard.append(end)

    llm = client(before=heard.append, after=after)
    provider.script("Yes.")
    completion = await llm.complete("Is it?", step="ask", user_id="u1", run_id="r1", tags={"team": "red"})
    call, end = heard
    assert (call.models, call.step, call.user_id, call.run_id, call.tags) == (
        (MODEL,),
        "ask",
        "u1",
        "r1",
        {"team": "red"},
    )
    assert call.messages == ({"role": "user", "content": "Is it?"},)
    assert (end.completion, end.error, end.call) == (completion, None, call)
    assert provider.api_key not in f"{heard!r} {call.messages}"


@pytest.mark.parametrize("error", [LLMCommonError("not on Sundays"), ValueError("a bug in the hook")])
async def test_before_can_veto(client, provider, ledger, error):
    """What it raises goes to the caller as it is; nothing is sent, reserved or told to `after`."""
    ends = []

    def before(call):
        raise error

    llm = client(before=before, after=ends.append)
    with pytest.raises(type(error)) as caught:
        await llm.chat("Is it?")
    with pytest.raises(type(error)):
        async with llm.stream("Is it?"):
            pass
    assert caught.value is error
    assert provider.requests == ends == []
    assert ledger._holds == {}


async def test_hooks_cannot_change_what_is_sent(client, provider):
    """They are shown copies."""

    def before(call):
        call.messages[0]["content"] = "something else"

    await client(before=before).chat([{"role": "user", "content": "Is it?"}])
    assert provider.requests[0].body["messages"] == [{"role": "user", "content": "Is it?"}]


async def test_a_broken_after_loses_no_answer(client, provider, ledger, caplog):
    """The answer is handed out and paid once; the traceback is in the log."""

    def broken(_):
        raise RuntimeError("the dashboard is down")

    provider.script(Fault.server_error(500), "Yes.")
    assert await client(after=broken, on_retry=broken).chat("Is it?") == "Yes."
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError] * 2
    assert len(provider.requests) == 2
    assert ledger.spent_today_nano > 0


async def test_after_hears_of_failures_and_their_settlement(client, provider, ledger):
    """The error is the caller's, and the money is settled by then."""
    heard = []
    provider.script(Fault.zai_error(1113))
    with pytest.raises(QuotaExhaustedError) as caught:
        await client(after=lambda end: heard.append((end.error, dict(ledger._holds)))).chat("Is it?")
    assert heard == [(caught.value, {})]


async def test_after_hears_of_a_cancellation(client, provider, ledger):
    """A cancelled call ends too, charged."""
    heard = []

    def after(end):
        heard.append((type(end.error), ledger.spent_today_nano > 0))

    provider.script(Fault.stall())
    task = asyncio.create_task(client(after=after).chat("Is it?"))
    await provider.arrived()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard == [(asyncio.CancelledError, True)]


async def test_on_retry_hears_of_each_request_that_another_follows(client, provider):
    """Two retries of the first model, then the second one; the last failure is no retry."""
    heard = []
    llm = client(on_retry=heard.append)
    provider.script(*[Fault.rate_limit()] * 3, Fault.zai_error(1113))
    with pytest.raises(AllModelsFailed):
        await llm.chat_with_fallback("Is it?", [MODEL, SECOND])
    assert [(retry.model, retry.attempt, retry.next_model) for retry in heard] == [
        (MODEL, 1, MODEL),
        (MODEL, 2, MODEL),
        (MODEL, 3, SECOND),
    ]
    assert all(isinstance(retry.error, RateLimitError) for retry in heard)
    assert heard[0].wait > 0 == heard[2].wait


async def test_streams_are_told_of_too(client, provider, ledger):
    """Read to the end, broken, left: one end each."""
    ends = []
    llm = client(after=ends.append)
    provider.script(
        Reply(text="one two", pieces=("one ", "two")),
        Fault.cut_stream(after_chunks=1),
        Reply(text="word " * 50, pieces=("word ",) * 50, seconds_per_chunk=0.02),
    )
    async with llm.stream("Count!") as stream:
        async for _ in stream:
            pass
    with pytest.raises(StreamInterruptedError):
        async with llm.stream("Count!") as broken:
            async for _ in broken:
                pass
    async with llm.stream("Count!") as left:
        async for _ in left:
            break
    assert ends[0].completion == stream.completion
    assert [type(end.error) for end in ends] == [type(None), StreamInterruptedError, asyncio.CancelledError]
    assert ledger.spent_today_nano > 0 < Decimal(provider.billed_usd)


async def test_a_call_that_cannot_be_made_is_not_told(client, provider):
    """Bad arguments are refused before any hook."""
    heard = []
    with pytest.raises(InvalidInputError):
        await client(before=heard.append).chat("   ")
    assert heard == []
