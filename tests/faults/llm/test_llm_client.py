"""`LLMClient` against real HTTP: what is asked, what is paid, and what comes of faults."""

import asyncio
import logging
from contextlib import asynccontextmanager
from decimal import Decimal

import psycopg
import pytest
from pydantic import BaseModel

from llm_common.cost_tracker import CostTracker
from llm_common.db import Database
from llm_common.exceptions import (
    AllModelsFailed,
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    ContextWindowError,
    DeadlineExceededError,
    EmptyAnswerError,
    InvalidInputError,
    LLMError,
    ModelNotFoundError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitError,
    StreamInterruptedError,
    StructuredOutputError,
)
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import BreakerPolicy, Breakers
from llm_common.llm.pricing import Price, Rates
from llm_common.llm.providers.direct import DirectWire
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import LLMClient
from llm_common.models import Budget, Usage
from llm_common.testing import Fault, Reply, block_network

FAST = RetryPolicy(base_wait=0.01)
USAGE = Usage(input_tokens=100, output_tokens=50)
# zai/glm-5.3: 1.40 in, 4.40 out per million → 100 * 1.40e-6 + 50 * 4.40e-6
COST = Decimal("0.000360")
MODEL = "zai/glm-5.3"
SECOND = "openai/gpt-6-luna"


class Verdict(BaseModel):
    guilty: bool
    reason: str


@pytest.fixture
def provider(fake_provider_env):
    return fake_provider_env


@pytest.fixture
def ledger():
    return LocalLedger()


@pytest.fixture
async def llm(provider, ledger):
    async with LLMClient(cost_tracker=ledger, model=MODEL, retry=FAST, breakers=Breakers()) as client:
        yield client


def spent(ledger) -> Decimal:
    return Decimal(ledger.spent_today_nano).scaleb(-9)


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_answer_comes_with_all_that_it_took(llm, ledger, provider):
    """Text, usage, cost and how it was known, who answered, and the one attempt."""
    provider.script(Reply(text="Yes.", usage=USAGE))
    completion = await llm.complete("Is it?")
    assert (completion.text, completion.usage, completion.cost_usd) == ("Yes.", USAGE, COST)
    assert (completion.price_source, completion.model, completion.provider) == ("map", MODEL, "zai")
    assert [attempt.error for attempt in completion.attempts] == [None]
    assert spent(ledger) == COST == llm.daily_cost
    assert provider.billed_usd > 0


async def test_chat_gives_the_text_or_the_instance(llm, provider):
    """The short form that hosts write."""
    provider.script("Hello.", {"guilty": True, "reason": "he did it"})
    assert await llm.chat([{"role": "user", "content": "Hi"}], MODEL) == "Hello."
    assert await llm.chat("Judge!", MODEL, Verdict) == Verdict(guilty=True, reason="he did it")


async def test_the_providers_own_figure_wins(llm, ledger, provider):
    """OpenRouter says what a call cost; no map knows better."""
    provider.script(Reply(text="Yes.", usage=USAGE, cost_usd=Decimal("0.0123")))
    completion = await llm.complete("Is it?", "openrouter/openai/gpt-4o-mini")
    assert (completion.cost_usd, completion.price_source) == (Decimal("0.0123"), "provider")
    assert spent(ledger) == Decimal("0.0123")


async def test_anthropic_is_asked_through_litellm_like_everybody_else(provider, ledger):
    """The other wire: text, structure, stream, usage and a price from the map; nothing else is called."""
    model = "anthropic/claude-sonnet-5-5"  # 2 in, 10 out per million
    provider.script(Reply(text="Yes.", usage=USAGE), {"guilty": False, "reason": "alibi"}, "one two")
    with block_network():
        async with LLMClient(cost_tracker=ledger, model=model, breakers=Breakers()) as llm:
            completion = await llm.complete("Is it?", max_tokens=100)
            verdict = await llm.chat("Judge!", response_model=Verdict, max_tokens=100)
            async with llm.stream("Count!", max_tokens=100) as stream:
                text = "".join([delta.text async for delta in stream])
    assert (completion.text, completion.usage, completion.provider) == ("Yes.", USAGE, "anthropic")
    assert (completion.cost_usd, completion.price_source) == (Decimal("0.0007"), "map")
    assert verdict == Verdict(guilty=False, reason="alibi")
    assert text == "one two"
    assert {request.provider for request in provider.requests} == {"anthropic"}


async def test_a_default_temperature_is_left_out_where_it_is_refused(llm, provider):
    """Claude 5.5 takes no temperature: the contract's 0.7 is not sent there, but one of the caller's own is."""
    await llm.chat("Hi", "anthropic/claude-sonnet-5-5", max_tokens=10)
    await llm.chat("Hi", MODEL)
    assert "temperature" not in provider.requests[0].body
    assert provider.requests[1].body["temperature"] == 0.7
    with pytest.raises(LLMError, match="temperature"):
        await llm.chat("Hi", "anthropic/claude-sonnet-5-5", temperature=0.3, max_tokens=10)


@pytest.mark.parametrize("wire", ["direct", "litellm"])
async def test_a_reasoning_model_of_openais_gets_no_default_temperature(provider, ledger, wire):
    """OpenAI refuses a temperature while a model reasons: the contract's 0.7 must not make every call fail."""
    async with LLMClient(cost_tracker=ledger, wire=wire) as llm:
        assert await llm.chat("Hi", SECOND, max_tokens=10)
    assert "temperature" not in provider.requests[0].body


async def test_extra_arguments_reach_the_provider(llm, provider):
    """What we do not know goes through as it is."""
    provider.script("ok")
    await llm.chat("Hi", MODEL, temperature=0.2, max_tokens=77, top_p=0.5)
    body = provider.requests[0].body
    assert (body["temperature"], body["max_tokens"], body["top_p"]) == (0.2, 77, 0.5)


async def test_one_client_works_on_loops_in_turn_and_in_threads(provider, ledger):
    """A host that calls `asyncio.run` twice, or from threads, is served."""
    llm = LLMClient(cost_tracker=ledger, model=MODEL, breakers=Breakers())
    answers = await asyncio.gather(*(asyncio.to_thread(lambda: asyncio.run(llm.chat("Hi"))) for _ in range(4)))
    assert all(answers)


# ── retries and fallbacks ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_passing_fault_is_retried(llm, ledger, provider):
    """A 429 and a 503, then the answer: three requests, one of them paid."""
    provider.script(Fault.rate_limit(), Fault.server_error(503), Reply(text="Yes.", usage=USAGE))
    completion = await llm.complete("Is it?")
    assert [attempt.status for attempt in completion.attempts] == [429, 503, None]
    assert spent(ledger) == COST


async def test_three_attempts_are_all(llm, ledger, provider):
    """The error says what happened at each of them; nothing is charged for refusals."""
    provider.script(*[Fault.server_error(500)] * 5)
    with pytest.raises(ProviderError) as caught:
        await llm.chat("Is it?")
    assert len(caught.value.attempts) == len(provider.requests) == 3
    assert spent(ledger) == 0


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.unauthorized(), AuthenticationError),
        (Fault.zai_error(1113), QuotaExhaustedError),
        (Fault.context_window(), ContextWindowError),
        (Fault.zai_error(1211), ModelNotFoundError),
    ],
    ids=["401", "1113", "window", "1211"],
)
async def test_what_waiting_does_not_help_is_asked_once(llm, provider, fault, error):
    """One request, and the error that fits."""
    provider.script(fault)
    with pytest.raises(error):
        await llm.chat("Is it?")
    assert len(provider.requests) == 1


async def test_the_next_model_takes_over(llm, ledger, provider):
    """An empty account at the first provider, an answer from the second, in its name."""
    provider.script(Fault.zai_error(1113), Reply(text="Yes.", usage=USAGE))
    completion = await llm.complete("Is it?", models=[MODEL, SECOND])
    assert (completion.text, completion.model, completion.provider) == ("Yes.", SECOND, "openai")
    assert [request.provider for request in provider.requests] == ["zai", "openai"]


async def test_when_all_fail_the_error_has_everybodys(llm, provider):
    """`AllModelsFailed` carries each model's last error and every attempt."""
    provider.script(Fault.zai_error(1113), *[Fault.server_error(500)] * 3)
    with pytest.raises(AllModelsFailed) as caught:
        await llm.chat_with_fallback("Is it?", [MODEL, SECOND])
    assert {model: type(error) for model, error in caught.value.errors.items()} == {
        MODEL: QuotaExhaustedError,
        SECOND: ProviderError,
    }
    assert len(caught.value.attempts) == 4


async def test_a_wrong_key_is_not_hidden_by_a_fallback(llm, provider):
    """The caller's own errors stop the chain."""
    provider.script(Fault.unauthorized())
    with pytest.raises(AuthenticationError):
        await llm.chat_with_fallback("Is it?", [MODEL, SECOND])
    assert len(provider.requests) == 1


async def test_an_open_circuit_is_passed_by(provider, ledger):
    """After its failures the first model is not asked again; the second is asked at once."""
    breakers = Breakers(BreakerPolicy(threshold=3))
    llm = LLMClient(cost_tracker=ledger, retry=FAST, breakers=breakers)
    provider.script(*[Fault.server_error(500)] * 3, "from the second", "again")
    for _ in range(2):
        await llm.chat_with_fallback("Is it?", [MODEL, SECOND])
    assert [request.provider for request in provider.requests] == ["zai"] * 3 + ["openai"] * 2
    assert list(llm.health().values()) == ["open"]
    await llm.aclose()


async def test_the_deadline_is_for_the_whole_call(llm, provider):
    """Retry-After beyond the deadline is not waited for: the provider's error comes at once."""
    provider.script(Fault.rate_limit(retry_after=30))
    with pytest.raises(RateLimitError) as caught:
        await llm.chat("Is it?", timeout=2)
    assert caught.value.retry_after == 30


async def test_a_silent_provider_meets_the_deadline(llm, ledger, provider):
    """A stalled call ends in time, and is charged: the provider may bill it."""
    provider.script(Fault.stall())
    with pytest.raises(DeadlineExceededError) as caught:
        await llm.chat("Is it?", timeout=0.3, max_tokens=10)
    assert caught.value.cost_usd == spent(ledger) > 0


# ── structured output ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_misfit_is_asked_for_again_and_both_are_paid(llm, ledger, provider):
    """The second request shows the model its answer and what was wrong with it."""
    provider.script(
        Reply(text='{"guilty": "maybe"}', usage=USAGE), Reply(text='{"guilty": true, "reason": "r"}', usage=USAGE)
    )
    completion = await llm.complete("Judge!", response_model=Verdict)
    assert completion.parsed == Verdict(guilty=True, reason="r")
    again = provider.requests[1].body["messages"]
    assert again[1]["content"] == '{"guilty": "maybe"}'
    assert "guilty" in again[2]["content"]
    assert completion.cost_usd == spent(ledger) == COST * 2


async def test_what_never_fits_is_an_error_with_the_raw_text(llm, ledger, provider):
    """Nothing is filled in by us, and three answers were paid."""
    provider.script(*[Reply(text="I will not.", usage=USAGE)] * 3)
    with pytest.raises(StructuredOutputError) as caught:
        await llm.complete("Judge!", response_model=Verdict)
    assert caught.value.raw_text == "I will not."
    assert caught.value.validation_errors
    assert caught.value.cost_usd == spent(ledger) == COST * 3


async def test_an_empty_answer_is_paid_and_asked_for_again(llm, ledger, provider):
    """A model that thought and said nothing has cost money."""
    provider.script(Reply(text="", usage=USAGE), Reply(text="Yes.", usage=USAGE))
    assert (await llm.complete("Is it?")).text == "Yes."
    assert spent(ledger) == COST * 2


async def test_nothing_but_empty_answers_is_an_error(llm, provider):
    """Empty is never handed out as an answer."""
    provider.script(*[Reply(text="", usage=USAGE)] * 3)
    with pytest.raises(EmptyAnswerError):
        await llm.complete("Is it?")


# ── money ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_budget_refuses_before_anything_is_sent(provider):
    """The worst case does not fit: no request, and the error has the figures."""
    llm = LLMClient(model=MODEL, budget_limit_usd=0.0001, cost_tracker=LocalLedger())
    with pytest.raises(BudgetExceededError) as caught:
        await llm.chat("Is it?", max_tokens=1000)
    assert provider.requests == []
    assert caught.value.limit_usd == Decimal("0.0001") == llm.budget_limit
    assert caught.value.requested_usd > caught.value.limit_usd
    assert caught.value.resets_at is not None


async def test_concurrent_calls_cannot_pass_a_budget_together(provider):
    """Of twenty at once, only as many are sent as fit in the worst case."""
    bound = Decimal("0.005")  # 1000 output tokens are 0.0044, and the prompt
    llm = LLMClient(model=MODEL, budget_limit_usd=bound * 3, cost_tracker=LocalLedger())
    provider.script(*[Reply(text="Yes.", usage=USAGE, delay=0.2)] * 20)
    results = await asyncio.gather(*(llm.chat("Is it?", max_tokens=1000) for _ in range(20)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, BudgetExceededError)]
    assert len(provider.requests) == 20 - len(refused) == 3
    await llm.aclose()


async def test_a_retry_after_a_paid_failure_needs_a_budget_of_its_own(provider):
    """The first attempt may be billed, so the second must fit beside it."""
    llm = LLMClient(model=MODEL, budget_limit_usd="0.006", cost_tracker=LocalLedger(), retry=FAST, breakers=Breakers())
    provider.script(Fault.truncated_json(), "never sent")
    with pytest.raises(BudgetExceededError) as caught:
        await llm.chat("Is it?", max_tokens=1000)
    assert len(provider.requests) == len(caught.value.attempts) == 1
    assert llm.daily_cost == caught.value.cost_usd > Decimal("0.004")
    await llm.aclose()


async def test_an_unknown_price_blocks_where_a_budget_binds(provider):
    """A budget cannot hold for a price that nobody knows, and never is that price zero."""
    unknown = "openrouter/somebody/something-new"
    llm = LLMClient(budget_limit_usd=10, cost_tracker=LocalLedger())
    with pytest.raises(ConfigurationError, match="prices="):
        await llm.chat("Hi", unknown)
    assert provider.requests == []
    told = LLMClient(
        budget_limit_usd=10,
        cost_tracker=LocalLedger(),
        prices={unknown: Price(rates=Rates.per_million(input="1", output="2"))},
    )
    assert await told.chat("Hi", unknown, max_tokens=10)
    await told.aclose()


async def test_an_unknown_price_is_an_estimate_and_never_zero(provider, ledger):
    """Without a budget the call goes on, at a stated ceiling."""
    llm = LLMClient(cost_tracker=ledger, provider="openai", base_url=provider.openai_url, api_key=provider.api_key)
    provider.script(Reply(text="Yes.", usage=USAGE))
    completion = await llm.complete("Hi", "my-own-model")
    assert completion.price_source == "estimate"
    assert completion.cost_usd == Decimal("0.012")  # 100 * 30e-6 + 50 * 180e-6
    await llm.aclose()


async def test_a_cancelled_call_is_charged_and_leaves_nothing_reserved(provider):
    """The request was on its way, so its bound is charged; afterwards the rest of the budget is free again."""
    ledger = LocalLedger((Budget(Decimal("0.010")),))
    llm = LLMClient(model=MODEL, cost_tracker=ledger)
    provider.script(Fault.stall(), "after")
    task = asyncio.create_task(llm.chat("Is it?", max_tokens=1000))
    await provider.arrived()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert Decimal("0.0044") < spent(ledger) < Decimal("0.0060")
    await llm.chat("Is it?", max_tokens=100)
    await llm.aclose()


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_call_that_breaks_in_an_unforeseen_way_is_charged(provider, ledger, streamed):
    """A request that was sent may be billed, whatever goes wrong on our side: its bound is charged, not released."""

    class BrokenWire(DirectWire):
        async def send(self, request, *, timeout):
            await super().send(request, timeout=timeout)
            raise RuntimeError("a bug")

        @asynccontextmanager
        async def stream(self, request, *, timeout):
            async with super().stream(request, timeout=timeout):
                yield self._broken()

        async def _broken(self):
            raise RuntimeError("a bug")
            yield

    llm = LLMClient(model=MODEL, cost_tracker=ledger)
    llm._factory()._wires["direct"] = BrokenWire()
    provider.script(Reply(text="Yes.", usage=USAGE))
    with pytest.raises(RuntimeError, match="a bug"):
        if streamed:
            async with llm.stream("Is it?", max_tokens=1000):
                pass
        else:
            await llm.chat("Is it?", max_tokens=1000)
    assert len(provider.requests) == 1
    assert Decimal("0.0044") < spent(ledger) < Decimal("0.0060")
    await llm.aclose()


async def test_without_a_tracker_one_warning_says_that_nothing_is_recorded(provider, monkeypatch, caplog):
    """A host learns once that it has no ledger."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    async with LLMClient(model=MODEL) as llm:
        with caplog.at_level(logging.WARNING, "llm_common"):
            await llm.chat("Hi")
            await llm.chat("Hi")
    assert [record.message for record in caplog.records if "nothing is recorded" in record.message] != []
    assert len(caplog.records) == 1


async def test_calls_are_recorded_through_database_url(provider, dsn, monkeypatch):
    """A client without a tracker finds the ledger by itself, and closes it."""
    monkeypatch.setenv("DATABASE_URL", dsn)
    provider.script(Reply(text="Yes.", usage=USAGE))
    async with LLMClient(model=MODEL, project="host") as llm:
        await llm.chat("Is it?", step="ask", user_id="u1", tags={"team": "red"})
        assert llm.daily_cost == COST
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        rows = await connection.execute("SELECT project, model, step, user_id, status, cost_usd FROM cost_tracking")
        assert await rows.fetchall() == [("host", MODEL, "ask", "u1", "ok", COST)]


async def test_a_call_cancelled_while_it_reserves_leaves_nothing_reserved(provider, dsn):
    """The reservation arrives after the caller has left, and is given back: nothing was sent, nothing is charged."""
    async with Database.connect(dsn) as db, await psycopg.AsyncConnection.connect(dsn) as other:
        await other.execute("SELECT pg_advisory_xact_lock(421, hashtext('default'))")
        llm = LLMClient(model=MODEL, cost_tracker=CostTracker(db, project="default"))
        task = asyncio.create_task(llm.chat("Is it?", max_tokens=100))
        blocked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as watcher:
            while (await (await watcher.execute(blocked)).fetchone())[0] == 0:
                assert not task.done()
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.sleep(0)
            await other.rollback()
            with pytest.raises(asyncio.CancelledError):
                await task
            counts = "SELECT (SELECT count(*) FROM cost_reservations), (SELECT count(*) FROM cost_tracking)"
            assert await (await watcher.execute(counts)).fetchone() == (0, 0)
        assert provider.requests == []


# ── streams ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_stream_hands_out_pieces_and_ends_with_the_whole(llm, ledger, provider):
    """The pieces make up the text; usage and cost are there at the end."""
    provider.script(Reply(text="one two three", usage=USAGE, pieces=("one ", "two ", "three")))
    async with llm.stream("Count!") as stream:
        pieces = [delta.text async for delta in stream]
    assert pieces == ["one ", "two ", "three"]
    assert (stream.completion.text, stream.completion.usage) == ("one two three", USAGE)
    assert stream.completion.cost_usd == spent(ledger) == COST
    assert stream.completion.seconds_to_first_token is not None


async def test_a_stream_falls_back_before_its_first_piece(llm, provider):
    """What fails before anything was handed out is nobody's loss."""
    provider.script(Fault.zai_error(1113), "from the second")
    async with llm.stream("Count!", models=[MODEL, SECOND]) as stream:
        text = "".join([delta.text async for delta in stream])
    assert (text, stream.completion.model) == ("from the second", SECOND)


async def test_a_stream_that_breaks_later_keeps_what_came(llm, ledger, provider):
    """The error has the partial text and what it cost; there is no second request."""
    provider.script(Reply(text="one two three", pieces=("one ", "two ", "three")), Fault.cut_stream(after_chunks=2))
    async with llm.stream("warm up") as stream:
        async for _ in stream:
            pass
    before = spent(ledger)
    with pytest.raises(StreamInterruptedError) as caught:
        async with llm.stream("Count!") as stream:
            async for _ in stream:
                pass
    assert caught.value.partial_text
    assert caught.value.cost_usd == spent(ledger) - before > 0
    assert len(provider.requests) == 2


async def test_leaving_a_stream_closes_it_and_charges_what_came(llm, ledger, provider):
    """The provider sees its client go, and the ledger has the part that was read."""
    provider.script(Reply(text="word " * 200, pieces=("word ",) * 200, seconds_per_chunk=0.02))
    async with llm.stream("Count!", max_tokens=100_000) as stream:
        async for _ in stream:
            break
    await provider.settled()
    assert provider.requests[0].client_left
    assert 0 < spent(ledger) < Decimal("0.01")


async def test_a_stalled_stream_is_not_waited_for(llm, provider):
    """`stall_timeout` bounds the silence between two pieces."""
    provider.script(Fault.stall_mid_stream(after_chunks=2))
    with pytest.raises(StreamInterruptedError, match="stalled"):
        async with llm.stream("Count!", stall_timeout=0.2) as stream:
            async for _ in stream:
                pass


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([], "empty"),
        ("   ", "blank"),
        (["hello"], "dict"),
        ([{"role": "robot", "content": "x"}], "robot"),
        ([{"role": "user"}], "content"),
    ],
)
async def test_messages_that_cannot_be_sent_are_refused(llm, provider, messages, told):
    """The error names the message; nothing goes out."""
    with pytest.raises(InvalidInputError, match=told):
        await llm.chat(messages)
    assert provider.requests == []


async def test_a_prompt_that_fits_no_window_is_refused_before_it_is_paid(llm, provider):
    """The text is counted, not sent."""
    with pytest.raises(ContextWindowError, match="Nothing was sent"):
        await llm.chat("word " * 1_200_000)
    assert provider.requests == []


async def test_an_unknown_model_names_its_neighbours(provider, monkeypatch):
    """A typo is told with what was probably meant."""
    monkeypatch.delenv("ZAI_API_BASE")
    with pytest.raises(ModelNotFoundError) as caught:
        await LLMClient(cost_tracker=LocalLedger()).chat("Hi", "zai/glm-5.33")
    assert "zai/glm-5.3" in caught.value.near_matches


async def test_check_tells_what_would_stop_a_call_and_sends_nothing(llm, ledger, provider):
    """Good prompts pass silently, bad ones raise what `complete` would raise; nothing is asked or reserved."""
    await llm.check("Is it?", MODEL)
    with pytest.raises(ContextWindowError):
        await llm.check("word " * 1_200_000, MODEL)
    assert provider.requests == []
    assert spent(ledger) == 0


async def test_no_model_is_told_with_where_to_name_one(provider, monkeypatch):
    """`LLMClient()` has no favourite."""
    monkeypatch.delenv("LLM_COMMON_MODEL", raising=False)
    with pytest.raises(ConfigurationError, match="LLM_COMMON_MODEL"):
        await LLMClient(cost_tracker=LocalLedger()).chat("Hi")


async def test_the_key_is_in_no_error_and_no_repr(provider, monkeypatch):
    """A refused key is not printed."""
    llm = LLMClient(provider="openai", api_key="sk-very-secret-0123456789", cost_tracker=LocalLedger(), model=SECOND)
    with pytest.raises(LLMError) as caught:
        await llm.chat("Hi")
    assert "very-secret" not in f"{caught.value!r} {caught.value} {caught.value.attempts} {llm!r}"
    await llm.aclose()
