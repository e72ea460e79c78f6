"""Structured output over real HTTP: every mode on every wire, whole and streamed, and what is paid for misfits."""

import json
from decimal import Decimal
from typing import Literal

import pytest
from pydantic import BaseModel

from llm_common.exceptions import (
    AllModelsFailed,
    ContentPolicyError,
    InvalidInputError,
    StreamInterruptedError,
    StructuredOutputError,
)
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import Breakers
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.llm.pricing import Price, Rates
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import LLMClient
from llm_common.models import ToolCall, Usage
from llm_common.testing import Fault, Reply

# LiteLLM silences this remark about itself when it is imported; pytest brings it back.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")

USAGE = Usage(input_tokens=100, output_tokens=50)
PRICE = Price(rates=Rates.per_million(input="1", output="2"))


class Clause(BaseModel):
    kind: Literal["clause"] = "clause"
    text: str
    parts: list["Clause | Fee"] = []


class Fee(BaseModel):
    kind: Literal["fee"] = "fee"
    dollars: int


GIVEN = {"kind": "clause", "text": "a fee of", "parts": [{"kind": "fee", "dollars": 7}]}
CLAUSE = Clause(text="a fee of", parts=[Fee(dollars=7)])
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "w", "parameters": {"type": "object", "properties": {}}},
}
CALL = ToolCall("call_1", "weather", "{}")

#: What is known of a model → the mode in which it is asked.
ABILITIES = {
    "json_schema": {"supports_json_schema": True, "supports_tools": True},
    "tools": {"supports_json_schema": False, "supports_tools": True},
    "json_object": {"supports_json_schema": False},
    "prompt": {"supports_json_schema": False, "supports_tools": False},
}
PLACES = [
    ("openai/some-model", "direct", "json_schema"),
    ("openai/some-model", "direct", "tools"),
    ("openai/some-model", "direct", "json_object"),
    ("openai/some-model", "litellm", "json_schema"),
    ("openai/some-model", "litellm", "tools"),
    ("openai/some-model", "litellm", "prompt"),
    ("openrouter/some/model", "direct", "json_schema"),
    ("openrouter/some/model", "direct", "tools"),
    ("anthropic/claude-sonnet-5-5", "litellm", "json_schema"),
    ("anthropic/claude-haiku-4-5", "litellm", "tools"),
    ("zai/glm-5.3", "direct", "json_object"),
]


@pytest.fixture
def provider(fake_provider_env):
    return fake_provider_env


@pytest.fixture
def ledger():
    return LocalLedger()


@pytest.fixture(params=PLACES, ids=["-".join((name.split("/")[0], *rest)) for name, *rest in PLACES])
async def place(request, provider, ledger):
    """A client whose model answers in one mode over one wire; the mode; how to script an answer in it."""
    model, wire, mode = request.param
    known = ModelInfo(provider=model.split("/")[0], name=model.partition("/")[2], price=PRICE, **ABILITIES[mode])
    async with LLMClient(
        cost_tracker=ledger,
        model=model,
        wire=wire,
        prices={model: known},
        retry=RetryPolicy(base_wait=0.01),
        breakers=Breakers(),
    ) as llm:
        yield llm, mode


def spent(ledger) -> Decimal:
    return Decimal(ledger.spent_today_nano).scaleb(-9)


def answer(value, **more) -> Reply:
    """The text becomes the arguments of the answer's tool where that is forced."""
    return Reply(text=value if isinstance(value, str) else json.dumps(value), usage=USAGE, **more)


def mode_of(body) -> str:
    """How a request that arrived asks for structure."""
    wanted = body.get("response_format") or body.get("output_format") or body.get("output_config", {}).get("format")
    if wanted:
        return wanted["type"]
    return "tools" if "tools" in body else "prompt"


async def read(stream):
    return [(delta.text, delta.partial) async for delta in stream]


# ── every mode on every wire ─────────────────────────────────────────────────────────────────────────────────────────


async def test_every_mode_gives_the_instance(place, provider, ledger):
    """The model is asked in its mode, and the answer is the instance, its JSON in `text`, and no tool call."""
    llm, mode = place
    provider.script(answer(GIVEN))
    completion = await llm.complete("Read!", response_model=Clause, max_tokens=500)
    assert mode_of(provider.requests[0].body) == mode
    assert completion.parsed == CLAUSE
    assert json.loads(completion.text) == GIVEN
    assert (completion.tool_calls, completion.finish_reason) == ((), "stop")
    assert completion.usage == USAGE
    assert spent(ledger) == completion.cost_usd


async def test_every_mode_asks_again_as_its_protocol_wants(place, provider, ledger):
    """The provider takes the second conversation, the model sees what was wrong, and both answers are paid."""
    llm, mode = place
    provider.script(answer({"text": 3}), answer(GIVEN))
    completion = await llm.complete("Read!", response_model=Clause, max_tokens=500)
    assert completion.parsed == CLAUSE
    assert completion.usage == USAGE + USAGE
    assert spent(ledger) == completion.cost_usd > 0
    again = json.dumps(provider.requests[1].body["messages"])
    assert "does not fit the schema" in again
    assert ("tool_use" in again or "tool_calls" in again) == (mode == "tools")
    assert ("tool_result" in again or "tool_call_id" in again) == (mode == "tools")


async def test_every_mode_streams_the_object_as_it_grows(place, provider, ledger):
    """Each partial has what came before and a little more; the instance is there at the end."""
    llm, _ = place
    provider.script(answer(GIVEN))
    async with llm.stream("Read!", response_model=Clause, max_tokens=500) as stream:
        seen = await read(stream)
    partials = [partial for _, partial in seen if partial]
    assert {"kind": "clause", "text": "a fee"} in [
        {**partial, "text": partial.get("text", "")[:5]} for partial in partials
    ]
    assert [len(json.dumps(partial)) for partial in partials] == sorted(len(json.dumps(p)) for p in partials)
    assert partials[-1] == GIVEN
    assert json.loads("".join(text for text, _ in seen)) == GIVEN
    assert stream.completion.parsed == CLAUSE
    assert json.loads(stream.completion.text) == GIVEN
    assert stream.completion.tool_calls == ()
    assert spent(ledger) == stream.completion.cost_usd > 0


async def test_every_mode_unwraps_lists_in_partials_too(place, provider):
    """A list is asked for as `{"value": [...]}`; nobody sees the wrapper."""
    llm, _ = place
    provider.script(answer({"value": [{"kind": "fee", "dollars": 1}, {"kind": "fee", "dollars": 2}]}))
    async with llm.stream("Read!", response_model=list[Fee], max_tokens=500) as stream:
        partials = [partial for _, partial in await read(stream) if partial is not None]
    assert all(isinstance(partial, list) for partial in partials)
    assert stream.completion.parsed == [Fee(dollars=1), Fee(dollars=2)]


async def test_a_stream_that_does_not_fit_at_its_end_is_an_error(place, provider, ledger):
    """Pieces were handed out, so it is not asked for again: the error has the raw text and the settled cost."""
    llm, _ = place
    provider.script(answer({"kind": "fee", "dollars": "many"}))
    with pytest.raises(StructuredOutputError) as caught:
        async with llm.stream("Read!", response_model=Fee, max_tokens=500) as stream:
            await read(stream)
    assert json.loads(caught.value.raw_text)["dollars"] == "many"
    assert "dollars" in caught.value.validation_errors[0]
    assert caught.value.cost_usd == spent(ledger) > 0
    assert len(provider.requests) == len(caught.value.attempts) == 1


# ── the caller's own tools ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["direct", "litellm"])
async def with_tools(request, provider, ledger):
    """A client whose model is asked by tools."""
    known = ModelInfo(provider="openai", name="some-model", price=PRICE, **ABILITIES["tools"])
    async with LLMClient(
        cost_tracker=ledger, model="openai/some-model", wire=request.param, prices={"openai/some-model": known}
    ) as llm:
        yield llm


async def test_the_callers_tools_stay_beside_the_answers(with_tools, provider):
    """The model may call one of them first: then there is no instance yet, and nothing is asked for again."""
    provider.script(Reply(tool_calls=(CALL,)), {"dollars": 7})
    completion = await with_tools.complete("Read!", response_model=Fee, tools=[WEATHER])
    assert (completion.parsed, completion.tool_calls) == (None, (CALL,))
    asked = provider.requests[0].body
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["weather", "answer_Fee"]
    assert asked["tool_choice"] == "required"
    assert len(provider.requests) == 1


async def test_an_answer_beside_the_callers_tools_is_found(with_tools, provider):
    """The answer's own call is no tool call of the caller's, whole and streamed."""
    final = ToolCall("call_2", "answer_Fee", '{"kind": "fee", "dollars": 7}')
    provider.script(Reply(tool_calls=(CALL, final)), Reply(tool_calls=(CALL, final)))
    completion = await with_tools.complete("Read!", response_model=Fee, tools=[WEATHER])
    assert (completion.parsed, completion.tool_calls) == (Fee(dollars=7), (CALL,))
    async with with_tools.stream("Read!", response_model=Fee, tools=[WEATHER]) as stream:
        deltas = [delta async for delta in stream]
    assert {piece.name for delta in deltas for piece in delta.tool_calls if piece.name} == {"weather"}
    assert deltas[-1].partial == {"kind": "fee", "dollars": 7}
    assert (stream.completion.parsed, stream.completion.tool_calls) == (Fee(dollars=7), (CALL,))


async def test_native_mode_lets_the_model_talk_while_it_calls(provider, ledger):
    """Words beside a tool call are not taken for a bad answer."""
    provider.script(Reply(text="Let me look.", tool_calls=(CALL,)))
    async with LLMClient(cost_tracker=ledger, model="openai/gpt-6-luna") as llm:
        completion = await llm.complete("Read!", response_model=Fee, tools=[WEATHER])
    assert (completion.parsed, completion.tool_calls, len(provider.requests)) == (None, (CALL,), 1)


# ── how it ends ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_answer_cut_by_max_tokens_is_not_asked_for_again(place, provider, ledger):
    """It would be cut again: one request, and the error says what to raise."""
    llm, _ = place
    provider.script(Reply(text='{"kind": "clause", "text": "never end', finish_reason="length", usage=USAGE))
    with pytest.raises(StructuredOutputError, match="Raise max_tokens") as caught:
        await llm.complete("Read!", response_model=Clause, max_tokens=500)
    assert len(provider.requests) == 1
    assert caught.value.cost_usd == spent(ledger) > 0


async def test_a_larger_model_may_finish_what_was_cut(provider, ledger):
    """A chain goes on to the next model."""
    provider.script(Reply(text='{"dollars"', finish_reason="length", usage=USAGE), {"dollars": 7})
    async with LLMClient(cost_tracker=ledger) as llm:
        fee = await llm.chat_with_fallback("Read!", ["openai/gpt-6-luna", "zai/glm-5.3"], Fee)
    assert fee == Fee(dollars=7)


async def test_a_filtered_answer_is_told_as_that(provider, ledger):
    """Safety rules stopped it in the middle: no reask, and the typed error."""
    provider.script(Reply(text='{"dollars"', finish_reason="content_filter", usage=USAGE))
    async with LLMClient(cost_tracker=ledger, model="openai/gpt-6-luna") as llm:
        with pytest.raises(ContentPolicyError) as caught:
            await llm.complete("Read!", response_model=Fee)
    assert len(provider.requests) == 1
    assert caught.value.cost_usd == spent(ledger) > 0


async def test_a_broken_structured_stream_has_its_json_so_far(place, provider, ledger):
    """What was handed out is in the error, whatever it came in, and it is paid."""
    llm, mode = place
    provider.script(Fault.cut_stream(after_chunks=2))
    with pytest.raises(StreamInterruptedError) as caught:
        async with llm.stream("Read!", response_model=Clause, max_tokens=500) as stream:
            await read(stream)
    # The provider's own words, which know nothing of a schema that stands in the prompt alone.
    assert caught.value.partial_text.startswith("You wrote" if mode == "prompt" else "{")
    assert caught.value.cost_usd == spent(ledger) > 0


async def test_a_structured_stream_falls_back_before_its_first_piece(provider, ledger):
    """The second model's mode is another one; the caller sees only its object."""
    provider.script(Fault.zai_error(1113), answer(GIVEN))
    known = ModelInfo(provider="openai", name="some-model", price=PRICE, **ABILITIES["tools"])
    async with (
        LLMClient(cost_tracker=ledger, prices={"openai/some-model": known}) as llm,
        llm.stream("Read!", models=["zai/glm-5.3", "openai/some-model"], response_model=Clause) as stream,
    ):
        assert (await read(stream))[-1][1] == GIVEN
    assert (stream.completion.parsed, stream.completion.model) == (CLAUSE, "openai/some-model")


def test_a_blocking_stream_has_partials_and_the_instance(provider, ledger):
    """The same for code without asyncio."""
    provider.script("```json\n" + json.dumps(GIVEN) + "\n```")
    with (
        LLMClient(cost_tracker=ledger, model="zai/glm-5.3").sync() as llm,
        llm.stream("Read!", response_model=Clause) as stream,
    ):
        partials = [delta.partial for delta in stream]
    assert partials[-1] == GIVEN
    assert stream.completion.parsed == CLAUSE


async def test_all_models_that_misfit_are_told(provider, ledger):
    """Each model's last misfit is in the error, and every answer was paid."""
    provider.script(*[Reply(text="No.", usage=USAGE)] * 6)
    async with LLMClient(cost_tracker=ledger, breakers=Breakers()) as llm:
        with pytest.raises(AllModelsFailed) as caught:
            await llm.chat_with_fallback("Read!", ["zai/glm-5.3", "openai/gpt-6-luna"], Fee)
    assert {type(error) for error in caught.value.errors.values()} == {StructuredOutputError}
    assert len(caught.value.attempts) == 6
    assert caught.value.cost_usd == spent(ledger) > 0


async def test_two_ways_to_say_the_format_are_refused(provider, ledger):
    """Which of them would hold is not ours to guess."""
    async with LLMClient(cost_tracker=ledger, model="zai/glm-5.3") as llm:
        with pytest.raises(InvalidInputError, match="not both"):
            await llm.complete("Read!", response_model=Fee, response_format={"type": "json_object"})
    assert provider.requests == []
