"""Anthropic's Messages API: raw events, and LiteLLM as the client that has to read them."""

import json
import warnings
from collections.abc import Iterator
from decimal import Decimal
from types import ModuleType
from typing import Any

import aiohttp
import pytest

from llm_common.models import ToolCall, Usage
from llm_common.testing import Answer, ChatRequest, FakeProvider, Fault, Reply, TokenPrice

pytestmark = pytest.mark.slow

HELLO = [{"role": "user", "content": "hello there"}]
BODY = {"model": "claude", "max_tokens": 100, "messages": HELLO}
WEATHER = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    with warnings.catch_warnings():
        # LiteLLM's own models and loops warn as they please; nothing of ours runs in here but the server.
        warnings.simplefilter("ignore")
        import litellm

        yield litellm


def _headers(provider: FakeProvider) -> dict[str, str]:
    return {"x-api-key": provider.api_key, "anthropic-version": "2023-06-01"}


async def _post(http: aiohttp.ClientSession, provider: FakeProvider, **more: Any) -> Any:
    url = f"{provider.anthropic_url}/v1/messages"
    async with http.post(url, json={**BODY, **more}, headers=_headers(provider)) as response:
        assert response.status == 200
        return await response.json()


async def _events(http: aiohttp.ClientSession, provider: FakeProvider, **more: Any) -> list[Any]:
    url = f"{provider.anthropic_url}/v1/messages"
    async with http.post(url, json={**BODY, "stream": True, **more}, headers=_headers(provider)) as response:
        assert response.content_type == "text/event-stream"
        text = await response.text()
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    assert all(json.loads(data[6:])["type"] == event[7:] for event, data in blocks)
    return [json.loads(data[6:]) for _, data in blocks]


async def test_whole_message(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A whole message has its blocks, its stop reason and its usage."""
    message = await _post(http, provider)
    assert message["content"] == [{"type": "text", "text": 'You wrote: "hello there".'}]
    assert (message["stop_reason"], message["role"], message["type"]) == ("end_turn", "assistant", "message")
    assert (message["usage"]["input_tokens"], message["usage"]["output_tokens"]) == (7, 7)


async def test_event_order(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A stream has its events in the documented order, text and tool arguments in pieces, the usage at its end."""
    call = ToolCall("toolu_1", "weather", '{"city": "Paris, in France"}')
    provider.script(Reply(text="Let me look.", tool_calls=(call,)))
    events = await _events(http, provider, tools=[WEATHER])
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["message_start", "ping", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    deltas = [event for event in events if event["type"] == "content_block_delta"]
    assert "".join(d["delta"]["text"] for d in deltas if d["index"] == 0) == "Let me look."
    assert "".join(d["delta"]["partial_json"] for d in deltas if d["index"] == 1) == call.arguments
    assert events[0]["message"]["usage"]["output_tokens"] == 1
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[-2]["usage"]["output_tokens"] == 3 + 7


async def test_cache_tokens_are_reported_apart(http: aiohttp.ClientSession) -> None:
    """Cache reads and writes are not in `input_tokens`, and an hour's writes have their own price."""
    usage = Usage(
        input_tokens=10, cache_read_tokens=1000, cache_write_tokens=300, output_tokens=50, cache_write_1h_tokens=100
    )
    price = TokenPrice(
        input=Decimal(2),
        output=Decimal(10),
        cache_read=Decimal("0.2"),
        cache_write=Decimal("2.5"),
        cache_write_1h=Decimal(4),
    )
    async with FakeProvider(prices={"claude": price}) as provider:
        provider.script(Reply(text="ok", usage=usage))
        reported = (await _post(http, provider))["usage"]
        assert provider.billed_usd == (20 + 200 + 500 + 400 + 500) / Decimal(1_000_000)
    assert reported["input_tokens"] == 10
    assert reported["cache_read_input_tokens"] == 1000
    assert reported["cache_creation_input_tokens"] == 300
    assert reported["cache_creation"] == {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100}


async def test_output_format_and_forced_tool(http: aiohttp.ClientSession) -> None:
    """A schema reaches the answer function from the output format and from a forced tool alike."""
    schema = {**WEATHER["input_schema"], "additionalProperties": False}
    seen: list[ChatRequest] = []

    def answer(request: ChatRequest) -> Answer:
        seen.append(request)
        return Answer('{"city": "Rome"}')

    async with FakeProvider(answer) as provider:
        wanted = {"type": "json_schema", "schema": schema}
        text = await _post(http, provider, output_format=wanted, system="Be brief.")
        await _post(http, provider, output_config={"format": wanted})
        call = await _post(http, provider, tools=[WEATHER], tool_choice={"type": "tool", "name": "weather"})
    assert [request.schema for request in seen] == [schema, schema, WEATHER["input_schema"]]
    assert seen[0].system_text == "Be brief."
    assert text["content"][0]["text"] == '{"city": "Rome"}'
    assert call["content"][0]["input"] == {"city": "Rome"}
    assert call["stop_reason"] == "tool_use"


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (Fault.rate_limit(retry_after=7), 429, "rate_limit_error"),
        (Fault.server_error(529), 529, "overloaded_error"),
        (Fault.server_error(), 500, "api_error"),
        (Fault.payment_required(), 402, "billing_error"),
        (Fault.unauthorized(), 401, "authentication_error"),
        (Fault.not_found(), 404, "not_found_error"),
        (Fault.context_window(), 400, "invalid_request_error"),
        (Fault.content_filter(), 400, "invalid_request_error"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
async def test_error_shape(
    http: aiohttp.ClientSession, provider: FakeProvider, fault: Fault, status: int, kind: str
) -> None:
    """Each error fault has Anthropic's status, type and request id."""
    provider.script(fault)
    url = f"{provider.anthropic_url}/v1/messages"
    async with http.post(url, json=BODY, headers=_headers(provider)) as response:
        body = await response.json()
        assert response.status == status
        assert response.headers["request-id"] == body["request_id"]
        assert response.headers.get("Retry-After") == fault.retry_after
    assert (body["type"], body["error"]["type"]) == ("error", kind)


async def test_error_in_mid_stream(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """An overload in mid-stream is an error event, and nothing follows it."""
    provider.script(Fault.error_mid_stream(after_chunks=1))
    events = await _events(http, provider)
    assert events[-1]["error"]["type"] == "api_error"
    assert sum(event["type"] == "content_block_delta" for event in events) == 1


@pytest.mark.parametrize(
    ("choice", "kind"), [({"type": "any"}, "tool_use"), ({"type": "auto"}, "text"), ({"type": "none"}, "text")]
)
async def test_tool_choice(http: aiohttp.ClientSession, provider: FakeProvider, choice: object, kind: str) -> None:
    """A tool is called where one must be; else the model talks."""
    message = await _post(http, provider, tools=[WEATHER], tool_choice=choice)
    assert [block["type"] for block in message["content"]] == [kind]


async def test_max_tokens_cuts_a_tool_call(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """Arguments that were cut short are no object, so none of them is shown."""
    message = await _post(http, provider, tools=[WEATHER], tool_choice={"type": "any"}, max_tokens=2)
    assert (message["stop_reason"], message["content"][0]["input"]) == ("max_tokens", {})
    assert message["usage"]["output_tokens"] == 2


async def test_no_content_blocks(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A message can have no content at all, streamed or not."""
    provider.script(Fault.empty_choices(), Fault.empty_choices())
    assert (await _post(http, provider))["content"] == []
    kinds = [event["type"] for event in await _events(http, provider)]
    assert kinds == ["message_start", "ping", "message_delta", "message_stop"]


async def test_models(http: aiohttp.ClientSession) -> None:
    """Anthropic's list of models shares its address with OpenAI's, and has its own shape."""
    async with (
        FakeProvider(models={"claude"}) as provider,
        http.get(f"{provider.anthropic_url}/v1/models", headers=_headers(provider)) as response,
    ):
        answer = await response.json()
    assert (answer["data"][0]["id"], answer["data"][0]["type"], answer["has_more"]) == ("claude", "model", False)


async def test_refusal_as_finish(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A safety stop is `refusal` here, with half of the words."""
    provider.script(Fault.content_filter_finish())
    message = await _post(http, provider)
    assert message["stop_reason"] == "refusal"
    assert message["content"][0]["text"] == 'You wrote: "'


async def test_litellm_whole_answer(litellm: ModuleType, provider: FakeProvider) -> None:
    """LiteLLM reads a whole message and its cached tokens."""
    provider.script(Reply(text="Hi!", usage=Usage(input_tokens=10, cache_read_tokens=90, output_tokens=5)))
    answer = await litellm.acompletion(
        model="anthropic/claude-sonnet-5-5",
        messages=HELLO,
        api_base=provider.anthropic_url,
        api_key=provider.api_key,
        max_retries=0,
    )
    assert answer.choices[0].message.content == "Hi!"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == 100
    assert answer.usage.prompt_tokens_details.cached_tokens == 90
    assert provider.requests[0].endpoint == "messages"


async def test_litellm_stream_with_tools(litellm: ModuleType, provider: FakeProvider) -> None:
    """LiteLLM puts a streamed tool call together, and finds the usage at the end."""
    provider.script(Reply(text="Look:", tool_calls=(ToolCall("toolu_1", "weather", '{"city": "Paris"}'),)))
    tool = {"type": "function", "function": {"name": "weather", "parameters": WEATHER["input_schema"]}}
    stream = await litellm.acompletion(
        model="anthropic/claude-sonnet-5-5",
        messages=HELLO,
        tools=[tool],
        stream=True,
        stream_options={"include_usage": True},
        api_base=provider.anthropic_url,
        api_key=provider.api_key,
    )
    chunks = [chunk async for chunk in stream]
    calls = [call for c in chunks if c.choices for call in c.choices[0].delta.tool_calls or []]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Look:"
    assert "".join(call.function.arguments or "" for call in calls) == '{"city": "Paris"}'
    assert chunks[-1].usage.completion_tokens == 2 + 5


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.rate_limit(), "RateLimitError"),
        (Fault.server_error(529), "InternalServerError"),
        (Fault.unauthorized(), "AuthenticationError"),
        (Fault.not_found(), "NotFoundError"),
        (Fault.context_window(), "ContextWindowExceededError"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
async def test_litellm_errors(litellm: ModuleType, provider: FakeProvider, fault: Fault, error: str) -> None:
    """LiteLLM takes each error for what it stands for."""
    provider.script(fault)
    with pytest.raises(getattr(litellm, error)):
        await litellm.acompletion(
            model="anthropic/claude-sonnet-5-5",
            messages=HELLO,
            api_base=provider.anthropic_url,
            api_key=provider.api_key,
            max_retries=0,
            num_retries=0,
        )


@pytest.mark.parametrize(
    ("model", "address"),
    [
        ("openai/gpt-6-luna", "openai_url"),
        ("openrouter/z-ai/glm-5.3", "openrouter_url"),
        ("zai/glm-5.3", "zai_url"),
    ],
)
async def test_litellm_other_providers(litellm: ModuleType, provider: FakeProvider, model: str, address: str) -> None:
    """LiteLLM reads the other providers' answers too."""
    answer = await litellm.acompletion(
        model=model, messages=HELLO, api_base=getattr(provider, address), api_key=provider.api_key
    )
    assert answer.choices[0].message.content == 'You wrote: "hello there".'
    assert provider.requests[0].provider == model.split("/", maxsplit=1)[0]
