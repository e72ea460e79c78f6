import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_common.exceptions import (
    ContentPolicyError,
    EmptyAnswerError,
    InvalidAnswerError,
    LLMError,
    ProviderError,
    RateLimitError,
)
from llm_common.llm.json_text import json_object
from llm_common.llm.response_parsing import answer_in, as_chunk, chunk_in
from llm_common.llm.streamed_answer import StreamedAnswer
from llm_common.llm.token_usage import cost_in, usage_in
from llm_common.llm.wire import Route, WireAnswer, WireChunk, WireRequest
from llm_common.models import ToolCall, Usage

ROUTE = Route(asked="m", provider="openrouter", name="z-ai/m", wire="direct", base_url="http://x", api_key="sk-test")
REQUEST = WireRequest(route=ROUTE, messages=({"role": "user", "content": "hello"},))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
MESSAGE_NAMES = ["choices", "message", "delta", "content", "tool_calls", "function", "name", "arguments", "id", "index"]
ANSWER_NAMES = ["finish_reason", "usage", "error", "model", "text", "type", "refusal", "input_tokens", "cache_creation"]
USAGE_NAMES = ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "cached_tokens", "cost"]
COST_NAMES = ["completion_tokens_details", "reasoning_tokens", "cost_details", "is_byok", "cache_creation_input_tokens"]
NAMES = [*MESSAGE_NAMES, *ANSWER_NAMES, *USAGE_NAMES, *COST_NAMES]


def shaped(depth: int) -> st.SearchStrategy[Any]:
    """JSON that looks like an answer, but with any value at any place."""
    if depth == 0:
        return json_values
    inner = shaped(depth - 1)
    return json_values | st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)


def payload(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "gen-1", "model": "z-ai/m-0711", "choices": [{"message": message, "finish_reason": "stop"}], **more}


def answer(body: dict[str, Any]) -> WireAnswer:
    return answer_in(REQUEST, body, {})


def test_a_plain_answer():
    """Text, finish reason, usage, price, model and id are read; `raw` is the whole answer."""
    body = payload(
        {"role": "assistant", "content": "Hi", "reasoning_content": "thinking"},
        usage={"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 0.000123},
    )
    assert answer(body) == WireAnswer(
        text="Hi",
        tool_calls=(),
        finish_reason="stop",
        usage=Usage(input_tokens=10, output_tokens=5),
        cost_usd=Decimal("0.000123"),
        answered_by="z-ai/m-0711",
        request_id="gen-1",
        raw=body,
    )


def test_missing_fields_are_not_made_up():
    """Without usage there is none, not zeros; without a model it is the one that was asked."""
    result = answer({"choices": [{"message": {"content": "Hi"}}]})
    assert (result.usage, result.cost_usd, result.finish_reason, result.request_id) == (None, None, None, None)
    assert result.answered_by == "z-ai/m"


def test_content_in_parts():
    """Text parts are joined; others stay in `raw`."""
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, "odd", {"type": "output_text", "text": "b"}]
    assert answer(payload({"content": parts})).text == "ab"


def test_tool_calls_without_text():
    """Content may be null; arguments stay as the model wrote them, and Ollama's object becomes JSON."""
    calls = [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1, "x": 2}'}},
        {"function": {"name": "g", "arguments": {"y": "é"}}},
        {"id": "call_3", "function": {"name": "h", "arguments": None}},
    ]
    result = answer(payload({"content": None, "tool_calls": calls}))
    assert result.tool_calls == (
        ToolCall("call_1", "f", '{"x": 1, "x": 2}'),
        ToolCall("", "g", '{"y":"é"}'),
        ToolCall("call_3", "h", ""),
    )
    assert result.text == ""


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 20}, Usage(100, 0, 0, 20)),
        ({"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": None}, Usage(100, 0, 0, 20)),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 120,
                "prompt_tokens_details": {"cached_tokens": 60},
                "completion_tokens_details": {"reasoning_tokens": 15},
            },
            Usage(40, 60, 0, 20, 15),
        ),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 50},
            },
            Usage(20, 30, 50, 20),
        ),
        (  # DeepSeek
            {"prompt_tokens": 100, "completion_tokens": 20, "prompt_cache_hit_tokens": 64},
            Usage(36, 64, 0, 20),
        ),
        (  # Anthropic through LiteLLM: the prompt holds both cache buckets
            {
                "prompt_tokens": 1000,
                "completion_tokens": 20,
                "total_tokens": 1020,
                "cache_read_input_tokens": 300,
                "cache_creation_input_tokens": 600,
                "prompt_tokens_details": {
                    "cached_tokens": 300,
                    "cache_creation_tokens": 600,
                    "cache_creation_token_details": {
                        "ephemeral_5m_input_tokens": 100,
                        "ephemeral_1h_input_tokens": 500,
                    },
                },
            },
            Usage(100, 300, 600, 20, 0, 500),
        ),
        (  # Anthropic's own spelling: the input is without the caches
            {
                "input_tokens": 100,
                "output_tokens": 20,
                "cache_read_input_tokens": 300,
                "cache_creation_input_tokens": 600,
                "cache_creation": {"ephemeral_1h_input_tokens": 500},
            },
            Usage(100, 300, 600, 20, 0, 500),
        ),
        (  # xAI: reasoning in the total only
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            Usage(32, 0, 0, 103, 94),
        ),
        ({"prompt_tokens": 12.0, "completion_tokens": 3.0}, Usage(12, 0, 0, 3)),
        ({"prompt_tokens": 7, "total_tokens": 7}, Usage(7)),  # embeddings
        (
            {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9}},
            Usage(0, 9, 0, 1),
        ),
        ({"prompt_tokens": -5, "completion_tokens": 1}, None),
        ({"prompt_tokens": "12", "completion_tokens": 1}, None),
        ({"prompt_tokens": True, "completion_tokens": 1}, None),
        ({"prompt_tokens": 10**30, "completion_tokens": 1}, None),
        ({}, None),
        (None, None),
        ([], None),
    ],
)
def test_usage_in_disjoint_buckets(usage: object, expected: Usage | None):
    """No token is in two buckets, whichever provider counted; what cannot be read is None."""
    assert usage_in({"usage": usage}) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ('{"cost": 0.00014}', "0.00014"),
        ('{"cost": 1e-7}', "1E-7"),
        ('{"cost": 0.000123456789012345}', "0.000123456789012345"),
        ('{"cost": 0}', "0"),
        ('{"cost": "0.25"}', "0.25"),
        ('{"cost": 0.05, "is_byok": true, "cost_details": {"upstream_inference_cost": 0.95}}', "1.00"),
        ('{"cost": 0.95, "is_byok": false, "cost_details": {"upstream_inference_cost": 0.95}}', "0.95"),
        ('{"cost": -1}', None),
        ('{"cost": true}', None),
        ('{"cost": "free"}', None),
        ('{"cost": null}', None),
        ('{"cost": NaN}', None),
        ('{"cost": 1e999}', None),
        ("{}", None),
    ],
)
def test_the_price_to_the_digit_that_was_printed(usage: str, expected: str | None):
    """`usage.cost` is exact; a price that is none is None, never 0."""
    cost = cost_in(json_object(ROUTE, '{"usage": ' + usage + "}"), "openrouter")
    assert cost == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"choices": []}, EmptyAnswerError),
        ({"choices": None}, EmptyAnswerError),
        ({"choices": [{"message": {"content": " \n"}, "finish_reason": "stop"}]}, EmptyAnswerError),
        ({"choices": [{"message": {"content": ""}, "finish_reason": "length"}]}, EmptyAnswerError),
        ({"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]}, ContentPolicyError),
        ({"choices": [{"message": {"content": None}, "finish_reason": "sensitive"}]}, ContentPolicyError),
        ({"choices": [{"message": {"content": None, "refusal": "I will not"}}]}, ContentPolicyError),
        # What OpenAI really sends: a refusal that ends like any answer.
        (
            {"choices": [{"message": {"content": None, "refusal": "I will not"}, "finish_reason": "stop"}]},
            ContentPolicyError,
        ),
        ({"choices": [{"message": {"content": ""}, "finish_reason": "network_error"}]}, ProviderError),
        ({"choices": [{"message": {"content": ""}, "error": {"code": 429, "message": "x"}}]}, RateLimitError),
        ({"error": {"code": 502, "message": "x"}}, ProviderError),
        ({"error": "boom"}, ProviderError),
        ({}, InvalidAnswerError),
        ({"choices": "x"}, InvalidAnswerError),
        ({"choices": ["x"]}, InvalidAnswerError),
        ({"choices": [{"message": "x"}]}, InvalidAnswerError),
        ({"choices": [{"message": {"content": 7}}]}, InvalidAnswerError),
        ({"choices": [{"message": {"tool_calls": "x"}}]}, InvalidAnswerError),
        ({"choices": [{"message": {"tool_calls": [{"id": "1"}]}}]}, InvalidAnswerError),
        ({"choices": [{"message": {"tool_calls": [{"function": {}}]}}]}, InvalidAnswerError),
    ],
)
def test_what_is_not_an_answer_is_the_error_that_it_is(body: dict[str, Any], error: type[LLMError]):
    """Empty, refused, failed and malformed answers are told apart, and may have been billed."""
    with pytest.raises(LLMError) as raised:
        answer(body)
    assert type(raised.value) is error
    assert raised.value.maybe_billed


def test_a_partial_answer_that_the_filter_cut_is_still_an_answer():
    """Text that arrived is not thrown away; the finish reason tells."""
    body = {"choices": [{"message": {"content": "The first"}, "finish_reason": "content_filter"}]}
    assert answer(body).finish_reason == "content_filter"


def test_an_empty_answer_carries_what_it_cost():
    """Reasoning that used up max_tokens is paid for, and the message says what to do."""
    usage = {"prompt_tokens": 10, "completion_tokens": 500, "cost": 0.01}
    with pytest.raises(EmptyAnswerError, match="raise max_tokens") as raised:
        answer({"choices": [{"message": {"content": ""}, "finish_reason": "length"}], "usage": usage})
    assert raised.value.usage == Usage(10, 0, 0, 500)
    assert raised.value.cost_usd == Decimal("0.01")


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": 1', b"[]", b'"x"', b"null", b"\xff\xfe", b"[" * 10_000])
def test_a_body_that_is_no_json_object(body: bytes):
    """The error has the raw text, and its message has not."""
    with pytest.raises(InvalidAnswerError) as raised:
        json_object(ROUTE, body)
    assert raised.value.raw_text == body.decode("utf-8", "replace")
    assert len(body) < 3 or raised.value.raw_text not in str(raised.value)


def test_chunks():
    """Text, reasoning, tool-call pieces, the finish reason, and usage in a chunk without choices."""
    assert chunk_in(REQUEST, {"id": "g", "model": "m", "choices": [{"delta": {"content": "a"}}]}, {}) == WireChunk(
        text="a", answered_by="m", request_id="g"
    )
    assert chunk_in(REQUEST, {"choices": [{"delta": {"reasoning_content": "hm"}}]}, {}).reasoning == "hm"
    assert chunk_in(REQUEST, {"choices": [{"delta": None, "finish_reason": "stop"}]}, {}).finish_reason == "stop"
    last = chunk_in(REQUEST, {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.5}}, {})
    assert (last.usage, last.cost_usd) == (Usage(1, 0, 0, 2), Decimal("0.5"))
    assert chunk_in(REQUEST, {"error": None, "choices": [{"delta": {"content": "a"}, "error": None}]}, {}).text == "a"


def test_an_error_within_a_stream_is_raised():
    """OpenRouter sends it beside a choice; it may have been billed."""
    event = {
        "error": {"code": 429, "message": "slow"},
        "choices": [{"delta": {"content": ""}, "finish_reason": "error"}],
    }
    with pytest.raises(RateLimitError) as raised:
        chunk_in(REQUEST, event, {})
    assert raised.value.maybe_billed


def deltas(*calls: dict[str, Any]) -> WireChunk:
    return chunk_in(REQUEST, {"choices": [{"delta": {"tool_calls": list(calls)}}]}, {})


def test_tool_calls_are_put_together_from_their_pieces():
    """Interleaved pieces go to their call; repeated ids and names are not doubled; order is that of beginning."""
    whole = StreamedAnswer()
    for chunk in (
        deltas({"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}),
        deltas({"index": 1, "id": "b", "function": {"name": "g", "arguments": '{"y"'}}),
        deltas({"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}}),
        deltas({"index": 0, "function": {"arguments": "1}"}}, {"index": 1, "function": {"arguments": ":2}"}}),
    ):
        whole.add(chunk)
    assert whole.answer(ROUTE).tool_calls == (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", '{"y":2}'))


def test_a_stream_put_together_equals_the_whole_answer():
    """`as_chunk` and `StreamedAnswer` are inverse, apart from `raw`."""
    calls = [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]
    original = answer(payload({"content": "Hi", "tool_calls": calls}, usage={"prompt_tokens": 3, "cost": 0.1}))
    whole = StreamedAnswer()
    whole.add(as_chunk(original))
    again = whole.answer(ROUTE)
    for name in ("text", "tool_calls", "finish_reason", "usage", "cost_usd", "answered_by", "request_id"):
        assert getattr(again, name) == getattr(original, name)


def test_a_stream_that_said_nothing_is_judged_like_an_answer():
    """The same errors, with the usage that came."""
    whole = StreamedAnswer()
    whole.add(chunk_in(REQUEST, {"choices": [{"delta": {}, "finish_reason": "content_filter"}]}, {}))
    whole.add(chunk_in(REQUEST, {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}}, {}))
    with pytest.raises(ContentPolicyError) as raised:
        whole.answer(ROUTE)
    assert raised.value.usage == Usage(9)


def test_a_refusal_in_pieces_is_a_refusal():
    """OpenAI streams it in a field of its own, and then ends like any answer."""
    whole = StreamedAnswer()
    for choice in (
        {"delta": {"role": "assistant", "content": "", "refusal": None}},
        {"delta": {"refusal": "I will "}},
        {"delta": {"refusal": "not"}},
        {"delta": {}, "finish_reason": "stop"},
    ):
        whole.add(chunk_in(REQUEST, {"choices": [choice]}, {}))
    with pytest.raises(ContentPolicyError):
        whole.answer(ROUTE)


@settings(max_examples=300)
@given(st.binary(max_size=200) | shaped(5).map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bytes_give_an_answer_or_a_typed_error(body: bytes):
    """Whatever a provider sends as a body or as an event, nothing but our errors comes out."""
    for read in (answer_in, chunk_in):
        result: object
        try:
            result = read(REQUEST, json_object(ROUTE, body), {})
        except LLMError as error:
            result = error
        assert isinstance(result, WireAnswer | WireChunk | LLMError)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(NAMES), shaped(3), max_size=8))
def test_usage_is_never_negative(usage: dict[str, Any]):
    """Odd numbers never give negative buckets, or more reasoning than output."""
    read = usage_in({"usage": usage})
    if read is not None:
        assert min(read.input_tokens, read.cache_read_tokens, read.cache_write_tokens, read.output_tokens) >= 0
        assert 0 <= read.reasoning_tokens <= read.output_tokens
        assert 0 <= read.cache_write_1h_tokens <= read.cache_write_tokens
