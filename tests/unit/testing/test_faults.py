"""Faults on the wire, as a client that looks at every byte sees them."""

import asyncio
import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from llm_common.testing import FakeProvider, Fault, Reply

ANSWER = "one two three four five"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
#: 5 tokens in (1 USD per million); 6 out (4 USD), or 9 where the pieces of a stream are counted.
INPUT_USD = Decimal("0.000005")


@dataclass
class Seen:
    """What one request met."""

    status: int = 0
    content_type: str = ""
    location: str | None = None
    data: bytes = b""
    error: Exception | None = None
    events: list[Any] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(e["choices"][0]["delta"].get("content") or "" for e in self.events if e.get("choices"))


async def _ask(http: aiohttp.ClientSession, provider: FakeProvider, *, address: str = "", **more: Any) -> Seen:
    seen = Seen()
    url = f"{address or provider.openai_url}/chat/completions"
    headers = {"Authorization": f"Bearer {provider.api_key}"}
    try:
        async with http.post(url, json={**BODY, **more}, headers=headers, allow_redirects=False) as response:
            seen.status, seen.content_type = response.status, response.content_type
            seen.location = response.headers.get("Location")
            async for part in response.content.iter_any():
                seen.data += part
    except aiohttp.ClientError as error:
        seen.error = error
    if seen.content_type == "text/event-stream":
        lines = [line[6:] for line in seen.data.decode().split("\n") if line.startswith("data: {")]
        seen.events = [json.loads(line) for line in lines if line.endswith("}")]
    return seen


@pytest.fixture
async def provider():
    async with FakeProvider(lambda _: Reply(text=ANSWER)) as running:
        yield running


async def test_reset_before_bytes(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """The connection is reset without a status line, and nothing is billed."""
    provider.script(Fault.reset_before_bytes())
    seen = await _ask(http, provider)
    assert (seen.status, seen.data) == (0, b"")
    assert isinstance(seen.error, aiohttp.ClientConnectionError)
    assert provider.requests[0].cost_usd is None


async def test_reset_is_a_real_reset(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """What the client meets is a TCP reset, not an orderly end."""
    provider.script(Fault.reset_before_bytes())
    assert "reset" in str((await _ask(http, provider)).error).lower()


@pytest.mark.parametrize("count", [0, 1, 40])
@pytest.mark.parametrize("stream", [False, True])
async def test_reset_after_bytes(
    http: aiohttp.ClientSession, provider: FakeProvider, count: int, *, stream: bool
) -> None:
    """The head and exactly so many bytes arrive."""
    provider.script(Fault.reset_after_bytes(count))
    seen = await _ask(http, provider, stream=stream)
    assert (seen.status, len(seen.data)) == (200, count)
    assert isinstance(seen.error, aiohttp.ClientError)
    # Without a stream the whole answer had been made, and is billed; the stream had not come to its first token.
    assert (provider.requests[0].cost_usd is None) is stream


async def test_cut_stream(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """So many deltas arrive, then the connection closes; what was made until then is billed."""
    provider.script(Fault.cut_stream(after_chunks=2))
    seen = await _ask(http, provider, stream=True)
    assert seen.text == "one two"
    assert b"[DONE]" not in seen.data
    assert isinstance(seen.error, aiohttp.ClientPayloadError)
    (request,) = provider.requests
    assert (request.outcome, request.chunks_sent, request.client_left) == ("fault:cut_stream", 2, False)
    assert request.cost_usd == INPUT_USD + 2 * Decimal("0.000004")


async def test_cut_without_a_stream(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A whole answer is cut in its middle, and billed whole."""
    provider.script(Fault.cut_stream())
    seen = await _ask(http, provider)
    assert isinstance(seen.error, aiohttp.ClientPayloadError)
    assert 0 < len(seen.data) < 500
    assert provider.requests[0].cost_usd == INPUT_USD + 6 * Decimal("0.000004")


async def test_end_stream_early(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """The stream ends as HTTP demands, so only the missing finish reason gives it away."""
    provider.script(Fault.end_stream_early(after_chunks=3))
    seen = await _ask(http, provider, stream=True)
    assert seen.error is None
    assert seen.text == "one two three"
    assert all(event["choices"][0]["finish_reason"] is None for event in seen.events)
    assert b"[DONE]" not in seen.data


@pytest.mark.parametrize("stream", [False, True])
async def test_truncated_json(http: aiohttp.ClientSession, provider: FakeProvider, *, stream: bool) -> None:
    """HTTP is in order, but the JSON stops in the middle."""
    provider.script(Fault.truncated_json())
    seen = await _ask(http, provider, stream=stream)
    assert (seen.status, seen.error) == (200, None)
    last = seen.data.decode().split("data: ")[-1]
    with pytest.raises(json.JSONDecodeError):
        json.loads(last)
    if stream:
        assert seen.text == "one two three four"


async def _begin_and_leave(http: aiohttp.ClientSession, provider: FakeProvider, **more: Any) -> bytes:
    """Read the beginning of an answer, then go."""
    headers = {"Authorization": f"Bearer {provider.api_key}"}
    url = f"{provider.openai_url}/chat/completions"
    seen = b""
    async with http.post(url, json={**BODY, **more}, headers=headers) as response:
        while (b"one" if more else b"{") not in seen:
            seen += await response.content.readany()
        response.close()
    await provider.settled()
    return seen


@pytest.mark.parametrize("more", [{}, {"stream": True}], ids=["whole", "stream"])
async def test_stall_mid_stream(http: aiohttp.ClientSession, provider: FakeProvider, more: dict[str, bool]) -> None:
    """The answer begins and then is silent, until the client has had enough; that is noticed."""
    provider.script(Fault.stall_mid_stream(after_chunks=1))
    seen = await _begin_and_leave(http, provider, **more)
    assert b'finish_reason": "stop' not in seen
    (request,) = provider.requests
    assert (request.outcome, request.client_left) == ("fault:stall_mid_stream", True)
    assert request.chunks_sent == len(more)
    assert request.cost_usd is not None


async def test_leaving_a_drip(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A client that leaves a slow stream is noticed, and pays for what was made until then."""
    provider.script(Fault.slow_drip(0.05))
    await _begin_and_leave(http, provider, stream=True)
    (request,) = provider.requests
    assert (request.outcome, request.client_left) == ("fault:slow_drip", True)
    assert request.chunks_sent < 5
    assert request.cost_usd < INPUT_USD + 6 * Decimal("0.000004")


async def test_faults_in_a_stream_without_content(http: aiohttp.ClientSession) -> None:
    """A stream that has no content to count is cut before its end."""
    async with FakeProvider(lambda _: Reply(text="")) as provider:
        provider.script(Fault.cut_stream(after_chunks=3))
        seen = await _ask(http, provider, stream=True)
    assert isinstance(seen.error, aiohttp.ClientPayloadError)
    assert b"[DONE]" not in seen.data


async def test_cut_before_the_first_word(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """After no chunks at all the role has come, no word, and no bill."""
    provider.script(Fault.cut_stream(after_chunks=0))
    seen = await _ask(http, provider, stream=True)
    assert (seen.text, len(seen.events)) == ("", 1)
    assert provider.billed_usd == 0


async def test_resetting_a_stream_late(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A reset in the middle of an event bills the events before it."""
    whole = await _ask(http, provider, stream=True)
    first_word = whole.data.index(b"one")
    provider.script(Fault.reset_after_bytes(whole.data.index(b" two")))
    seen = await _ask(http, provider, stream=True)
    assert first_word < len(seen.data) == whole.data.index(b" two")
    assert provider.requests[1].cost_usd == INPUT_USD + Decimal("0.000004")


@pytest.mark.parametrize("fault", [Fault.stall(), Fault.rate_limit().delayed(60)], ids=["stall", "delayed"])
async def test_leaving_a_silent_server(http: aiohttp.ClientSession, provider: FakeProvider, fault: Fault) -> None:
    """A stall never answers, a delayed fault not yet: who leaves pays nothing, and is seen to leave."""
    provider.script(fault)
    asking = asyncio.create_task(_ask(http, provider))
    await provider.arrived(1)
    asking.cancel()
    await provider.settled()
    (request,) = provider.requests
    assert (request.outcome, request.client_left, request.cost_usd) == (f"fault:{fault.name}", True, None)


@pytest.mark.parametrize("stream", [False, True])
async def test_slow_drip(http: aiohttp.ClientSession, provider: FakeProvider, *, stream: bool) -> None:
    """The whole answer comes, in pieces, and costs what it always costs."""
    provider.script(Fault.slow_drip(0.002))
    slow = await _ask(http, provider, stream=stream)
    quick = await _ask(http, provider, stream=stream)
    assert slow.error is None
    assert len(slow.data) == len(quick.data)
    assert [request.cost_usd for request in provider.requests] == [INPUT_USD + 6 * Decimal("0.000004")] * 2


async def test_not_json_and_a_page(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A gateway's words come as JSON that is none, or as a page."""
    provider.script(Fault.not_json(), Fault.wrong_content_type())
    words, page = await _ask(http, provider), await _ask(http, provider)
    assert (words.status, words.content_type, words.data[:8]) == (200, "application/json", b"upstream")
    assert (page.status, page.content_type, page.data[:9]) == (200, "text/html", b"<!DOCTYPE")
    assert provider.billed_usd == 0


async def test_redirect(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A redirect keeps the method and names the other place."""
    provider.script(Fault.redirect("http://127.0.0.1:9/elsewhere"))
    seen = await _ask(http, provider)
    assert (seen.status, seen.location) == (307, "http://127.0.0.1:9/elsewhere")


async def test_error_in_200(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """OpenRouter's way: the status says 200, the body or the first event says otherwise; nothing is billed."""
    provider.script(Fault.error_in_200(), Fault.error_in_200(status=429, message="slow down"))
    whole = await _ask(http, provider, address=provider.openrouter_url)
    stream = await _ask(http, provider, address=provider.openrouter_url, stream=True)
    assert (whole.status, json.loads(whole.data)["error"]["code"]) == (200, 502)
    assert stream.events[0]["error"]["message"] == "slow down"
    assert stream.events[0]["choices"][0]["finish_reason"] == "error"
    assert provider.billed_usd == 0


async def test_empty_choices(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """There is no choice at all, in a stream neither."""
    provider.script(Fault.empty_choices(), Fault.empty_choices())
    whole = json.loads((await _ask(http, provider)).data)
    stream = await _ask(http, provider, stream=True, stream_options={"include_usage": True})
    assert whole["choices"] == []
    assert [event["choices"] for event in stream.events] == [[]]


@pytest.mark.parametrize("stream", [False, True])
async def test_empty_content(http: aiohttp.ClientSession, provider: FakeProvider, *, stream: bool) -> None:
    """The model stops without a word; its reading of the prompt is billed all the same."""
    provider.script(Fault.empty_content())
    seen = await _ask(http, provider, stream=stream)
    text = seen.text if stream else json.loads(seen.data)["choices"][0]["message"]["content"]
    assert text == ""
    assert provider.requests[0].cost_usd == INPUT_USD


async def test_wrong_schema_and_code_fence(http: aiohttp.ClientSession) -> None:
    """The text is JSON of another shape, or the right JSON in a fence."""
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
    async with FakeProvider() as provider:
        provider.script(Fault.wrong_schema(), Fault.code_fenced())
        texts = []
        for _ in range(2):
            seen = await _ask(http, provider, response_format=schema)
            texts.append(json.loads(seen.data)["choices"][0]["message"]["content"])
    assert json.loads(texts[0]) == {"unexpected": True}
    assert texts[1].endswith('```json\n{"a": 0}\n```\n')


async def test_wrong_schema_in_a_tool_call(http: aiohttp.ClientSession) -> None:
    """Forced arguments can be misshapen too."""
    tool = {"type": "function", "function": {"name": "t", "parameters": SCHEMA}}
    async with FakeProvider() as provider:
        provider.script(Fault.wrong_schema())
        seen = await _ask(http, provider, tools=[tool], tool_choice="required")
    (call,) = json.loads(seen.data)["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "t", "arguments": '{"unexpected": true}'}


@pytest.mark.parametrize(
    ("address", "reason"), [("openai_url", "content_filter"), ("zai_url", "sensitive")], ids=["openai", "zai"]
)
async def test_content_filter_finish(
    http: aiohttp.ClientSession, provider: FakeProvider, address: str, reason: str
) -> None:
    """The answer stops half-way, for the provider's own reason."""
    provider.script(Fault.content_filter_finish())
    seen = await _ask(http, provider, address=getattr(provider, address))
    choice = json.loads(seen.data)["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == (reason, ANSWER[:11])


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault.rate_limit(), 429, 429),
        (Fault.payment_required(), 402, 402),
        (Fault.not_found(), 400, 400),
        (Fault.content_filter(), 403, 403),
        (Fault.context_window(), 400, 400),
        (Fault.server_error(502), 502, 502),
        (Fault.server_error(529), 529, 529),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
async def test_openrouter_errors(
    http: aiohttp.ClientSession, provider: FakeProvider, fault: Fault, status: int, code: int
) -> None:
    """OpenRouter's code is the status, as a number."""
    provider.script(fault)
    seen = await _ask(http, provider, address=provider.openrouter_url)
    assert (seen.status, json.loads(seen.data)["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault.rate_limit(), 429, "1302"),
        (Fault.payment_required(), 429, "1113"),
        (Fault.not_found(), 400, "1211"),
        (Fault.content_filter(), 400, "1301"),
        (Fault.context_window(), 400, "1261"),
        (Fault.unauthorized(), 401, "1000"),
        (Fault.server_error(503), 503, "1234"),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
async def test_zai_errors(
    http: aiohttp.ClientSession, provider: FakeProvider, fault: Fault, status: int, code: str
) -> None:
    """z.ai's code is its own, as text."""
    provider.script(fault)
    seen = await _ask(http, provider, address=provider.zai_url)
    assert (seen.status, json.loads(seen.data)["error"]["code"]) == (status, code)


async def test_an_answer_function_can_fail_on_purpose(http: aiohttp.ClientSession) -> None:
    """An answer function may return a fault, so that a model can be down for good."""
    async with FakeProvider(lambda r: Fault.server_error(503) if r.model == "down" else Reply(text="up")) as provider:
        assert (await _ask(http, provider, model="down")).status == 503
        assert (await _ask(http, provider, model="m")).status == 200
