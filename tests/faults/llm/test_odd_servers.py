"""Answers as users of other clients reported them: what those read is read here, over both wires, and paid as it is."""

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from llm_common.exceptions import (
    BadRequestError,
    ConfigurationError,
    ConnectionFailedError,
    EmptyAnswerError,
    InvalidAnswerError,
    LLMError,
    ProviderError,
    QuotaExhaustedError,
    StreamInterruptedError,
)
from llm_common.ledger.local import LocalLedger
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.llm.pricing import Price, Rates
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm.wire import WireName
from llm_common.llm_client import LLMClient
from llm_common.models import Completion
from llm_common.settings import Settings
from llm_common.usage import Usage
from tests.support.raw_server import DONE, USAGE, RawServer, Said, document, event, raw_server, stream_of

# LiteLLM silences this remark about itself when it is imported; pytest brings it back.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")

PRICE = Price(rates=Rates.per_million(input="1", output="10", cache_read="0.1", cache_write="1.25"))
KEY = "sk-a-test-key-of-mine"
both_wires = pytest.mark.parametrize("wire", ["direct", "litellm"])


class Facts(BaseModel):
    facts: list[str]


def client_of(url: str, provider: str = "openai", wire: WireName | None = None, **arguments: Any) -> LLMClient:
    arguments.setdefault("prices", {f"{provider}/m": PRICE})
    return LLMClient(
        provider,
        KEY,
        base_url=url,
        wire=wire,
        timeout=60,
        retry=RetryPolicy(3, 0.01),
        cost_tracker=LocalLedger(),
        settings=Settings(),
        **arguments,
    )


@asynccontextmanager
async def asked(said: Any, base: str = "/v1", **arguments: Any) -> AsyncGenerator[tuple[LLMClient, RawServer]]:
    async with raw_server(said) as server, client_of(f"{server.url}{base}", **arguments) as client:
        yield client, server


async def streamed(client: LLMClient, model: str = "m", **arguments: Any) -> tuple[Completion[Any], str]:
    """The completion, and the text that was handed out on the way."""
    async with client.stream("hi", model, max_tokens=100, **arguments) as stream:
        text = "".join([delta.text async for delta in stream])
    return stream.completion, text


@both_wires
@pytest.mark.parametrize("usage", [..., None, {}, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}])
async def test_an_answer_that_nobody_counted_costs_its_bound(wire: WireName, usage: object):
    """No usage, or one of zeros beside work, is no count: the bound is charged, as an estimate."""
    async with asked(document({"content": "hello"}, usage=usage), wire=wire) as (client, _):
        answer = await client.complete("hi", "m", max_tokens=100)
    assert answer.price_source == "estimate"
    assert answer.cost_usd > Decimal("0.001")


@both_wires
@pytest.mark.parametrize("usage", [..., None, {"prompt_tokens": 0, "completion_tokens": 0}])
async def test_a_stream_that_nobody_counted_is_an_estimate(wire: WireName, usage: object):
    """Each byte that came is taken for a token, and nobody's own count passes for the provider's."""
    async with asked(stream_of({"content": "hello"}, usage=usage), wire=wire) as (client, _):
        answer, _ = await streamed(client)
    assert answer.price_source == "estimate"
    assert answer.usage.output_tokens == len("hello")
    assert answer.cost_usd > 0


def calls(*pieces: tuple[dict[str, Any], dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"tool_calls": [{"type": "function", **about, "function": function}]} for about, function in pieces]


@both_wires
@pytest.mark.parametrize(
    "about",
    [{"index": 0}, {"index": 0, "id": ""}, {"index": 0, "id": None}, {}],
    ids=["no id", "empty", "null", "no index"],
)
async def test_calls_under_one_index_stay_apart(wire: WireName, about: dict[str, Any]):
    """Whole arguments end a call, whatever index and id say; the same tool may be called twice."""
    pieces = calls(
        (about, {"name": "get_weather", "arguments": '{"city":"London"}'}),
        (about, {"name": "get_time", "arguments": '{"tz":"UTC"}'}),
        (about, {"name": "get_time", "arguments": '{"tz":"CET"}'}),
    )
    async with asked(stream_of(*pieces, finish="tool_calls"), wire=wire) as (client, _):
        answer, _ = await streamed(client)
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [
        ("get_weather", '{"city":"London"}'),
        ("get_time", '{"tz":"UTC"}'),
        ("get_time", '{"tz":"CET"}'),
    ]


async def test_calls_that_cannot_be_told_apart_are_an_error():
    """Another name follows arguments that are not whole: a wrong call would be worse."""
    pieces = calls(
        ({"index": 0}, {"name": "one", "arguments": '{"a":'}), ({"index": 0}, {"name": "two", "arguments": "1}"})
    )
    async with asked(stream_of(*pieces)) as (client, _):
        with pytest.raises(StreamInterruptedError) as caught:
            await streamed(client)
    assert isinstance(caught.value.__cause__, InvalidAnswerError)
    assert caught.value.cost_usd > 0


@both_wires
async def test_of_several_answers_the_first_is_streamed(wire: WireName):
    """With n=2 the pieces of the second are not mixed in, and both are in the bound."""
    said = (
        event({"content": "AAA"})
        + event({"content": "BBB"}, index=1)
        + event({"content": " aaa"})
        + event(None, "length", 1)
        + event(None, "stop")
        + DONE
    )
    async with asked(said, wire=wire) as (client, _):
        answer, text = await streamed(client, n=2)
    assert (answer.text, text, answer.finish_reason) == ("AAA aaa", "AAA aaa", "stop")


async def test_old_servers_count_tokens_in_the_index():
    """Where one answer was asked for, the index says nothing."""
    said = b"".join(event({"content": word}, index=number) for number, word in enumerate(["a", "b", "c"]))
    async with asked(said + event(None, "stop", 3) + DONE) as (client, _):
        answer, _ = await streamed(client)
    assert answer.text == "abc"


@both_wires
@pytest.mark.parametrize("reason", ["error", "network_error"])
async def test_a_provider_that_failed_midway_has_not_answered(wire: WireName, reason: str):
    """Half a text with that finish reason is a failure: asked again, and in a stream interrupted."""
    async with asked(document({"content": "half an ans"}, reason), wire=wire) as (client, server):
        with pytest.raises(ProviderError):
            await client.complete("hi", "m")
        assert len(server.requests) == 3
    async with asked(stream_of({"content": "half an ans"}, finish=reason), wire=wire) as (client, _):
        with pytest.raises(StreamInterruptedError) as caught:
            await streamed(client)
    assert (caught.value.partial_text, caught.value.cost_usd) == ("half an ans", Decimal("0.00006"))


def vllm(window: int, prompt: int = 12):
    """vLLM with a small window, which bounds prompt and answer together."""

    def answer(request: dict[str, Any]) -> Said:
        wanted = request.get("max_tokens", 0)
        if wanted + prompt <= window:
            return Said(document({"content": "hello"}))
        told = (
            f"'max_tokens' or 'max_completion_tokens' is too large: {wanted}. This model's maximum context length is "
            f"{window} tokens and your request has {prompt} input tokens."
        )
        body = {"object": "error", "message": told, "type": "BadRequestError", "code": 400}
        return Said(json.dumps(body).encode(), "400 Bad Request")

    return answer


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
@pytest.mark.parametrize("window", [32_768, 8_192, 2_048])
async def test_a_small_window_is_learnt_from_the_refusal(provider: str, window: int):
    """The same request goes out once more with what is left; further calls begin with it, and pay no refusal."""
    async with asked(vllm(window), provider=provider, prices={}) as (client, server):
        first = await client.complete("hi", "my-local-model")
        second = await client.complete("hi", "my-local-model")
        assert [request["max_tokens"] for request in server.requests] == [32_768, window - 12, window - 12]
    assert (first.text, len(first.attempts), len(second.attempts)) == ("hello", 2, 1)
    assert first.attempts[0].cost_usd == 0


async def test_a_window_that_the_caller_s_own_bound_breaks_is_an_error():
    """What the caller asked for is not lowered."""
    async with asked(vllm(8_192), prices={}) as (client, server):
        with pytest.raises(BadRequestError):
            await client.complete("hi", "my-local-model", max_tokens=10_000)
        assert len(server.requests) == 1


@both_wires
async def test_a_byte_order_mark_is_passed_over(wire: WireName):
    """One mark at the very beginning, of a stream or of a document."""
    mark = b"\xef\xbb\xbf"
    said = Said(mark + stream_of({"content": "FIRST "}, {"content": "second"}), content_type="text/event-stream")
    async with asked(said, wire=wire) as (client, _):
        assert (await streamed(client))[0].text == "FIRST second"
    async with asked(Said(mark + document({"content": "hello"})), wire=wire) as (client, server):
        assert (await client.complete("hi", "m")).text == "hello"
        assert len(server.requests) == 1


@both_wires
async def test_zeros_after_a_count_change_nothing(wire: WireName):
    """Counts of a stream only grow; halves that are told apart are put together."""
    zeros = b'data: {"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}\n\n'
    said = event({"content": "hello"}) + event(None, "stop", usage=USAGE) + zeros + DONE
    async with asked(said, wire=wire) as (client, _):
        answer, _ = await streamed(client)
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.price_source) == (10, 5, "override")
    halves = event({"content": "hello"}, usage={"prompt_tokens": 10}) + event(
        None, "stop", usage={"prompt_tokens": 0, "completion_tokens": 5}
    )
    async with asked(halves + DONE, wire=wire) as (client, _):
        assert (await streamed(client))[0].cost_usd == Decimal("0.00006")


@both_wires
async def test_a_gateway_s_zero_is_no_price(wire: WireName):
    """The tokens are charged at the host's own price; OpenRouter's zero is one."""
    said = document({"content": "hello"}, usage={**USAGE, "cost": 0})
    async with asked(said, wire=wire) as (client, _):
        answer = await client.complete("hi", "m")
    assert (answer.cost_usd, answer.price_source) == (Decimal("0.00006"), "override")
    free = {"openrouter/a/b:free": PRICE}
    async with asked(said, wire=wire, provider="openrouter", prices=free) as (client, _):
        assert (await client.complete("hi", "a/b:free")).cost_usd == 0


@both_wires
@pytest.mark.parametrize("status", ["201 Created", "202 Accepted", "299 Fine"])
async def test_every_success_is_one(wire: WireName, status: str):
    """Any status of that class that has an answer in it."""
    async with asked(Said(document({"content": "hello"}), status), wire=wire) as (client, server):
        assert (await client.complete("hi", "m")).text == "hello"
        assert len(server.requests) == 1
    async with asked(Said(stream_of({"content": "hi"}), status, "text/event-stream"), wire=wire) as (client, _):
        assert (await streamed(client))[0].text == "hi"


@both_wires
@pytest.mark.parametrize(
    ("error", "requests"),
    [
        ({"message": "The model is overloaded.", "type": "server_error", "code": 503}, 3),
        ({"message": "slow down", "type": "rate_limit_error"}, 3),
        ({"message": "busy", "type": "overloaded_error"}, 3),
        ({"message": "Bad Gateway", "code": "502"}, 3),
        ({"message": "bad parameter", "type": "invalid_request_error", "code": 400}, 1),
    ],
    ids=["503", "rate limit", "overloaded", "code as text", "refused"],
)
async def test_the_upstream_s_own_error_decides(wire: WireName, error: dict[str, Any], requests: int):
    """A gateway's 400 around an upstream that was busy is tried again, and the next model asked."""
    raw = json.dumps({"error": error})
    wrapped = {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw, "provider_name": "X"}}
    said = Said(json.dumps({"error": wrapped}).encode(), "400 Bad Request")

    def answer(request: dict[str, Any]) -> Said:
        return said if request["model"] == "a/one" else Said(document({"content": "second"}))

    prices = {"openrouter/a/one": PRICE, "openrouter/a/two": PRICE}
    async with asked(answer, provider="openrouter", wire=wire, prices=prices) as (client, server):
        if requests == 1:
            with pytest.raises(BadRequestError):
                await client.complete("hi", models=["a/one", "a/two"])
        else:
            assert (await client.complete("hi", models=["a/one", "a/two"])).text == "second"
        assert sum(request["model"] == "a/one" for request in server.requests) == requests


ODD = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"ok \\ud83d"}}]}\n\n'
REST = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"\\ude00!"}}]}\n\n'


@both_wires
@pytest.mark.parametrize(
    ("said", "text"), [(ODD, "ok \ufffd"), (ODD + REST, "ok \U0001f600!")], ids=["alone", "in two"]
)
async def test_halves_of_characters_are_joined(wire: WireName, said: bytes, text: str):
    """A half that stands alone is replaced; nothing that cannot be encoded comes out, and nothing is asked twice."""
    said += event(None, "stop") + b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n' + DONE
    async with asked(said, wire=wire) as (client, server):
        answer, handed_out = await streamed(client)
        assert (answer.text, handed_out, len(server.requests)) == (text, text, 1)
    body = b'{"choices":[{"message":{"content":"ok \\ud83d"},"finish_reason":"stop"}]}'
    async with asked(body, wire=wire) as (client, server):
        assert (await client.complete("hi", "m")).text == "ok \ufffd"
        assert len(server.requests) == 1


@both_wires
async def test_half_a_character_in_the_prompt_is_refused_before_it_is_sent(wire: WireName):
    """Over either wire the caller's own mistake, and not tried again."""
    async with asked(document({"content": "hello"}), wire=wire) as (client, server):
        with pytest.raises(BadRequestError):
            await client.complete("hi \ud83d", "m")
        assert server.requests == []


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"facts": ["use ```json fences"]}\n```',
        '```JSON\n{"facts": ["use ```json fences"]}',
        'An example:\n```json\n{"facts": ["no"]}\n```\nThe answer:\n```\n{"facts": ["use ```json fences"]}\n```',
        '<think>Is {"facts": []} right?</think>\n{"facts": ["use ```json fences"]}',
        'Here it is: {"facts": ["use ```json fences"]} Good luck!',
    ],
    ids=["fence in a text", "no end", "two fences", "thoughts", "words"],
)
async def test_a_document_is_found_where_it_is(text: str):
    """The first answer is right, and is not paid three times."""
    async with asked(document({"content": text})) as (client, server):
        assert await client.chat("hi", "m", Facts) == Facts(facts=["use ```json fences"])
        assert len(server.requests) == 1


def strict(request: dict[str, Any]) -> Said:
    """A server that knows no `stream_options`."""
    if "stream_options" not in request:
        return Said(event({"content": "hi"}, "stop", usage=USAGE) + DONE, content_type="text/event-stream")
    detail = [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]
    body = {"object": "error", "message": {"detail": detail}, "type": "invalid_request_error"}
    return Said(json.dumps(body).encode(), "422 Unprocessable Entity")


@both_wires
async def test_a_server_that_knows_no_stream_options(wire: WireName):
    """It is learnt from the first refusal; a caller who says None has none sent at all."""
    async with asked(strict, wire=wire) as (client, server):
        for _ in range(2):
            assert (await streamed(client))[0].text == "hi"
        assert ["stream_options" in request for request in server.requests] == [True, False, False]
    async with asked(strict, wire=wire) as (client, server):
        assert (await streamed(client, stream_options=None))[0].text == "hi"
        assert len(server.requests) == 1


def renamed(request: dict[str, Any]) -> Said:
    """A deployment behind a gateway that takes only the newer name."""
    if "max_tokens" not in request:
        return Said(document({"content": "hello"}))
    told = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    return Said(json.dumps({"error": {"message": told, "code": "unsupported_parameter"}}).encode(), "400 Bad Request")


async def test_the_newer_name_of_the_bound_is_learnt():
    """The refusal names it, and the caller's own spelling is kept."""
    async with asked(renamed) as (client, server):
        assert (await client.complete("hi", "m", max_tokens=50)).text == "hello"
        assert [request.get("max_completion_tokens") for request in server.requests] == [None, 50]
    async with asked(renamed) as (client, server):
        assert (await client.complete("hi", "m", max_completion_tokens=50)).text == "hello"
        assert len(server.requests) == 1


CUSTOM = {"id": "c9", "type": "custom", "custom": {"name": "run_code", "input": "print('hi')"}}


@both_wires
async def test_calls_of_custom_tools_and_of_before(wire: WireName):
    """The input is the arguments as it is; `function_call` is a call too."""
    tools = [{"type": "custom", "custom": {"name": "run_code"}}]
    async with asked(document({"content": None, "tool_calls": [CUSTOM]}, "tool_calls"), wire=wire) as (client, server):
        (call,) = (await client.complete("hi", "m", tools=tools)).tool_calls
        assert (call.id, call.name, call.arguments, len(server.requests)) == ("c9", "run_code", "print('hi')", 1)
    said = stream_of({"tool_calls": [{"index": 0, **CUSTOM}]}, finish="tool_calls")
    async with asked(said, wire=wire) as (client, _):
        (call,) = (await streamed(client, tools=tools))[0].tool_calls
        assert (call.id, call.name, call.arguments) == ("c9", "run_code", "print('hi')")
    old = {"content": None, "function_call": {"name": "f", "arguments": "{}"}}
    async with asked(document(old, "function_call"), wire=wire) as (client, _):
        (call,) = (await client.complete("hi", "m")).tool_calls
        assert (call.name, call.arguments) == ("f", "{}")


@both_wires
async def test_a_stream_is_judged_by_what_it_is(wire: WireName):
    """Events called JSON, a document called text or events, an error called events."""
    async with asked(Said(stream_of({"content": "hello"})), wire=wire) as (client, _):
        assert (await streamed(client))[0].text == "hello"
    for kind in ("text/plain", "text/event-stream", "application/octet-stream"):
        async with asked(Said(document({"content": "hello"}), content_type=kind), wire=wire) as (client, _):
            assert (await streamed(client))[0].text == "hello"
    quota = b'{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}'
    async with asked(Said(quota, content_type="text/event-stream"), wire=wire) as (client, server):
        with pytest.raises(QuotaExhaustedError):
            await streamed(client)
        assert len(server.requests) == 1
    async with asked(Said(stream_of({"content": "hello"}), content_type="text/event-stream"), wire=wire) as (client, _):
        assert (await client.complete("hi", "m")).text == "hello"


@both_wires
@pytest.mark.parametrize(
    "failure",
    [b'event: error\ndata: {"message":"overloaded"}\n\n', b'{"error":{"message":"overloaded","code":503}}\n'],
    ids=["named", "bare"],
)
async def test_an_error_in_mid_stream_is_no_end(wire: WireName, failure: bytes):
    """An event named error, or a bare line of JSON, and [DONE] behind it: half a text is not the answer."""
    async with asked(event({"content": "half"}) + failure + DONE, wire=wire) as (client, _):
        with pytest.raises(StreamInterruptedError):
            await streamed(client)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"detail": [{"loc": ["body", "messages", 0], "msg": "Field required"}]}, "body.messages.0: Field required"),
        ({"errors": ["no such field", {"message": "nor this"}]}, "no such field; nor this"),
        ({"error": {"description": "the tea is cold"}}, "the tea is cold"),
        ({"error_msg": "the tea is cold"}, "the tea is cold"),
        ({"anything": {"else": "the tea is cold"}}, "the tea is cold"),
        ({"message": {"detail": [{"msg": "bad"}]}}, "bad"),
    ],
)
async def test_the_reason_of_a_refusal_is_shown(body: dict[str, Any], shown: str):
    """Whatever shape it has, and without the key."""
    said = Said(json.dumps({**body, "echo": KEY}).encode(), "422 Unprocessable Entity")
    async with asked(said) as (client, _):
        with pytest.raises(BadRequestError) as caught:
            await client.complete("hi", "m")
    assert shown in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
async def test_a_proxy_without_a_scheme_is_one_of_http(monkeypatch: pytest.MonkeyPatch, variable: str):
    """As curl has it; where it cannot be reached, the error is about it."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with raw_server(document({"content": "proxied"})) as proxy:
        monkeypatch.setenv(variable, proxy.url.removeprefix("http://"))
        async with client_of("http://provider.example/v1") as client:
            assert (await client.complete("hi", "m")).text == "proxied"
    monkeypatch.setenv(variable, "127.0.0.1:9")
    async with client_of("http://provider.example/v1") as client:
        with pytest.raises(ConnectionFailedError, match=r"proxy 127\.0\.0\.1:9"):
            await client.complete("hi", "m")
    monkeypatch.setenv(variable, "socks5://user:secret@127.0.0.1:9")
    async with client_of("http://provider.example/v1") as client:
        with pytest.raises(ConfigurationError, match=f"{variable} is a socks5:// proxy") as caught:
            await client.complete("hi", "m")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("placeholder", ["-", "x", "EMPTY", "none", "ollama", "k"])
async def test_a_placeholder_for_a_key_spoils_no_message(placeholder: str):
    """What local servers' manuals have for a key stands in many words."""
    told = "max_tokens: none of the extra values is empty-handed; ask ollama"
    said = Said(json.dumps({"error": {"message": told}}).encode(), "400 Bad Request")
    async with (
        raw_server(said) as server,
        LLMClient("openai", placeholder, base_url=f"{server.url}/v1", settings=Settings()) as client,
    ):
        with pytest.raises(BadRequestError) as caught:
            await client.complete("hi", "m")
    assert told in str(caught.value)


@both_wires
async def test_pictures_alone_are_an_answer_and_in_a_stream_an_error(wire: WireName):
    """`raw` has them; a stream has nowhere to put them, and is not asked for again."""
    message = {"content": None, "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}
    async with asked(document(message), wire=wire) as (client, _):
        answer = await client.complete("hi", "m")
        assert answer.raw["choices"][0]["message"]["images"]
    async with asked(stream_of(message), wire=wire) as (client, server):
        with pytest.raises(EmptyAnswerError, match="complete"):
            await streamed(client)
        assert len(server.requests) == 1
    async with asked(document({"content": None, "audio": {"data": "AAAA", "transcript": "hello"}}), wire=wire) as (
        client,
        _,
    ):
        assert (await client.complete("hi", "m")).text == "hello"


async def test_a_used_up_bound_is_not_paid_again():
    """An answer without text that ended at max_tokens would end there again."""
    said = document({"content": "", "reasoning_content": "hm"}, "length")
    async with asked(said) as (client, server):
        with pytest.raises(EmptyAnswerError, match="max_tokens") as caught:
            await client.complete("hi", "m")
        assert len(server.requests) == 1
    assert caught.value.cost_usd == Decimal("0.00006")


def message(reason: str, *blocks: dict[str, Any], **usage: Any) -> bytes:
    return json.dumps(
        {
            "id": "m1",
            "type": "message",
            "role": "assistant",
            "model": "claude-haiku-4-5",
            "content": list(blocks) or [{"type": "text", "text": "cut"}],
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 5, **usage},
        }
    ).encode()


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "pause_turn"),
        ("refusal", "content_filter"),
        ("something_new", "something_new"),
    ],
)
async def test_anthropic_s_stop_reasons(reason: str, expected: str):
    """What OpenAI has a word for has that, everything else its own; a cut answer never looks finished."""
    arguments = {"provider": "anthropic", "base": "", "prices": {}}
    async with asked(message(reason), **arguments) as (client, _):
        assert (await client.complete("hi", "claude-haiku-4-5")).finish_reason == expected
    events = [
        ("message_start", {"message": {"id": "m1", "model": "x", "usage": {"input_tokens": 10, "output_tokens": 1}}}),
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "cut"}}),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": reason}, "usage": {"output_tokens": 5}}),
        ("message_stop", {}),
    ]
    said = b"".join(f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode() for kind, data in events)
    async with asked(Said(said, content_type="text/event-stream"), **arguments) as (client, _):
        answer, _ = await streamed(client, "claude-haiku-4-5")
    assert (answer.text, answer.finish_reason) == ("cut", expected)
    assert answer.usage == Usage(input_tokens=10, output_tokens=5)


async def test_anthropic_s_own_tools_are_not_the_caller_s_to_run():
    """A paused turn has only the provider's calls in it; their searches are paid, and bounded beforehand."""
    block = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}
    said = message("pause_turn", block, server_tool_use={"web_search_requests": 3})
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    async with asked(said, provider="anthropic", base="", prices={}) as (client, server):
        answer = await client.complete("hi", "claude-sonnet-4-5", tools=tools)
        assert server.requests[0]["tools"][0]["max_uses"] == 10
    assert (answer.tool_calls, answer.finish_reason) == ((), "pause_turn")
    assert answer.cost_usd == Decimal("0.030105")
    assert answer.raw["content"] == [block]


@pytest.mark.parametrize(
    ("model", "variable"),
    [("gemini/gemini-2.5-pro", "GEMINI_API_KEY"), ("azure/gpt-4o", "AZURE_API_KEY"), ("fireworks_ai/x", "FIREWORKS")],
)
async def test_a_provider_without_its_key_names_the_variable(
    model: str, variable: str, monkeypatch: pytest.MonkeyPatch
):
    """Nothing was sent, nothing is tried again, nobody's traceback is shown, and nothing stays reserved."""
    for name in [name for name in os.environ if name.endswith(("_KEY", "_TOKEN"))]:
        monkeypatch.delenv(name)
    ledger = LocalLedger()
    prices = {model: PRICE}
    client = LLMClient(settings=Settings(), cost_tracker=ledger, prices=prices, retry=RetryPolicy(3, 0.01))
    async with client:
        with pytest.raises(ConfigurationError, match=variable) as caught:
            await client.complete("hi", model, max_tokens=5)
        with pytest.raises(ConfigurationError, match=variable):
            await streamed(client, model)
    assert "Traceback" not in str(caught.value)
    assert (ledger.spent_today_nano, ledger._holds) == (0, {})


async def test_what_litellm_cannot_make_is_the_caller_s_mistake():
    """A parameter that LiteLLM refuses for the model: no request, no second try."""
    info = ModelInfo(provider="anthropic", name="claude-haiku-4-5", price=PRICE)
    async with asked(message("end_turn"), provider="anthropic", base="", prices={"claude-haiku-4-5": info}) as (
        client,
        server,
    ):
        with pytest.raises(LLMError) as caught:
            await client.complete("hi", "claude-haiku-4-5", logprobs=True)
        assert server.requests == []
    assert isinstance(caught.value, BadRequestError)
