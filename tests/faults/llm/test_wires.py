"""Both wires against real HTTP: the same answers, and the same typed errors for the same faults."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest

from llm_common.exceptions import (
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    ContentPolicyError,
    ContextWindowError,
    DeadlineExceededError,
    EmptyAnswerError,
    InvalidAnswerError,
    LLMError,
    ModelNotFoundError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitError,
)
from llm_common.llm.providers.direct import DirectWire
from llm_common.llm.providers.litellm_call import load_litellm
from llm_common.llm.providers.litellm_wire import LiteLLMWire
from llm_common.llm.streamed_answer import StreamedAnswer
from llm_common.llm.wire import Route, Wire, WireAnswer, WireName, WireRequest
from llm_common.models import ToolCall, Usage
from llm_common.testing import FakeProvider, Fault, Reply

# LiteLLM silences this remark about itself when it is imported; pytest brings it back.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")

PATIENT = 60.0
SHORT = 0.5
PROMPT = "Say hello to the whole world"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@dataclass(frozen=True)
class Endpoint:
    wire: WireName
    provider: str
    model: str

    def request(self, provider: FakeProvider) -> WireRequest:
        route = Route(
            asked=self.model,
            provider=self.provider,
            name=self.model,
            wire=self.wire,
            base_url=getattr(provider, f"{self.provider}_url"),
            api_key=provider.api_key,
        )
        return WireRequest(route=route, messages=({"role": "user", "content": PROMPT},), max_tokens=500)


ENDPOINTS = [
    Endpoint("direct", "openai", "gpt-6-luna"),
    Endpoint("direct", "openrouter", "z-ai/glm-5.3"),
    Endpoint("direct", "zai", "glm-5.3"),
    Endpoint("litellm", "openai", "gpt-4o"),
    Endpoint("litellm", "openrouter", "z-ai/glm-5.3"),
    Endpoint("litellm", "zai", "glm-5.3"),
    Endpoint("litellm", "anthropic", "claude-sonnet-5-5"),
]


@pytest.fixture(params=ENDPOINTS, ids=lambda endpoint: f"{endpoint.wire}-{endpoint.provider}")
def endpoint(request: pytest.FixtureRequest) -> Endpoint:
    return request.param


@pytest.fixture
async def wire(endpoint: Endpoint) -> AsyncGenerator[Wire]:
    wire = DirectWire()
    if endpoint.wire == "litellm":
        await load_litellm()  # not on the time of a call: the machine may be busy
        wire = LiteLLMWire()
    yield wire
    await wire.aclose()


@pytest.fixture
def request_(endpoint: Endpoint, fake_provider_env: FakeProvider) -> WireRequest:
    return endpoint.request(fake_provider_env)


async def stream(wire: Wire, request: WireRequest, *, timeout: float = PATIENT) -> WireAnswer:
    whole = StreamedAnswer()
    async with wire.stream(request, timeout=timeout) as chunks:
        async for chunk in chunks:
            whole.add(chunk)
    return whole.answer(request.route)


async def send(wire: Wire, request: WireRequest, *, timeout: float = PATIENT) -> WireAnswer:
    return await wire.send(request, timeout=timeout)


Ask = Callable[..., Awaitable[WireAnswer]]
both_ways = pytest.mark.parametrize("ask", [send, stream])


@both_ways
async def test_an_answer(ask: Ask, wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider):
    """Text, finish reason, usage, model and the provider's own price are the same over each wire, whole or streamed."""
    usage = Usage(input_tokens=11, output_tokens=7, reasoning_tokens=3)
    fake_provider_env.script(Reply(text="Hello, wörld €!", usage=usage, cost_usd=Decimal("0.00123")))
    answer = await ask(wire, request_)
    assert answer.text == "Hello, wörld €!"
    assert answer.tool_calls == ()
    assert answer.finish_reason == "stop"
    assert answer.usage is not None
    assert replace(answer.usage, reasoning_tokens=0) == Usage(input_tokens=11, output_tokens=7)
    assert answer.answered_by == request_.route.name
    assert answer.request_id
    assert answer.cost_usd == (Decimal("0.00123") if request_.route.provider == "openrouter" else None)
    assert len(fake_provider_env.requests) == 1


@both_ways
async def test_cached_tokens(ask: Ask, wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider):
    """Fresh, read and written tokens are disjoint; Anthropic's hour-long writes are told apart."""
    provider = request_.route.provider
    usage = Usage(input_tokens=10, cache_read_tokens=300, output_tokens=5)
    if provider in {"openrouter", "anthropic"}:
        usage = replace(usage, cache_write_tokens=200)
    if provider == "anthropic":
        usage = replace(usage, cache_write_1h_tokens=150)
    fake_provider_env.script(Reply(text="Hello", usage=usage))
    assert (await ask(wire, request_)).usage == usage


@both_ways
async def test_tool_calls(ask: Ask, wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider):
    """Two calls come back with their ids, names and arguments."""
    calls = (
        ToolCall("call_1", "weather", '{"city":"Zürich"}'),
        ToolCall("call_2", "weather", '{"city":"Oslo"}'),
    )
    fake_provider_env.script(Reply(tool_calls=calls))
    answer = await ask(wire, replace(request_, tools=(WEATHER,), tool_choice="auto"))
    assert answer.finish_reason == "tool_calls"
    assert [(call.id, call.name) for call in answer.tool_calls] == [("call_1", "weather"), ("call_2", "weather")]
    assert [json.loads(call.arguments) for call in answer.tool_calls] == [json.loads(call.arguments) for call in calls]


async def test_the_request_that_is_sent(wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider):
    """Model, messages, bounds and unknown parameters arrive; usage is asked for in streams."""
    request = replace(request_, temperature=1.0, extra={"stop": ["THE END"]})
    await stream(wire, request)
    body = fake_provider_env.requests[0].body
    assert body["model"] == request.route.name
    assert body["max_tokens"] == 500
    assert body["temperature"] == 1.0
    assert "THE END" in json.dumps(body)
    assert body["stream"] is True
    assert body["messages"][0]["role"] == "user"
    if request.route.provider != "anthropic":
        assert body["stream_options"]["include_usage"] is True


@dataclass(frozen=True)
class Case:
    fault: Fault
    error: type[LLMError]
    maybe_billed: bool = False
    retry_after: float | None = None


REFUSALS = [
    Case(Fault.rate_limit(), RateLimitError),
    Case(Fault.rate_limit(7), RateLimitError, retry_after=7.0),
    Case(Fault.server_error(500), ProviderError),
    Case(Fault.server_error(503), ProviderError),
    Case(Fault.server_error(529), ProviderError),
    Case(Fault.unauthorized(), AuthenticationError),
    Case(Fault.payment_required(), QuotaExhaustedError),
    Case(Fault.not_found(), ModelNotFoundError),
    Case(Fault.context_window(), ContextWindowError),
    Case(Fault.content_filter(), ContentPolicyError),
    Case(Fault.redirect("http://127.0.0.2:9/v1"), BadRequestError),
]
BREAKS = [
    Case(Fault.reset_before_bytes(), ConnectionFailedError, maybe_billed=True),
    Case(Fault.reset_after_bytes(20), ConnectionFailedError, maybe_billed=True),
    Case(Fault.error_in_200(), ProviderError, maybe_billed=True),
    Case(Fault.wrong_content_type(), InvalidAnswerError, maybe_billed=True),
]
ANSWERS = [
    Case(Fault.truncated_json(), InvalidAnswerError, maybe_billed=True),
    Case(Fault.not_json(), InvalidAnswerError, maybe_billed=True),
    Case(Fault.empty_choices(), EmptyAnswerError, maybe_billed=True),
    Case(Fault.empty_content(), EmptyAnswerError, maybe_billed=True),
]
STREAMS = [
    Case(Fault.error_mid_stream(), ProviderError, maybe_billed=True),
    Case(Fault.cut_stream(), ConnectionFailedError, maybe_billed=True),
    Case(Fault.end_stream_early(), ConnectionFailedError, maybe_billed=True),
]


def cases(*lists: list[Case]) -> pytest.MarkDecorator:
    chosen = [case for group in lists for case in group]
    names = [f"{case.fault.name}-{case.fault.status or case.fault.retry_after or ''}".rstrip("-") for case in chosen]
    return pytest.mark.parametrize("case", chosen, ids=names)


async def check(ask: Ask, wire: Wire, request: WireRequest, provider: FakeProvider, case: Case) -> None:
    provider.script(case.fault)
    with pytest.raises(LLMError) as raised:
        await ask(wire, request)
    error = raised.value
    assert type(error) is case.error, error
    assert (error.maybe_billed, error.retry_after) == (case.maybe_billed, case.retry_after)
    assert error.provider == request.route.provider
    assert error.model == request.route.name
    assert provider.api_key not in str(error)
    assert PROMPT not in str(error)
    assert error.__context__ is None or "litellm" not in type(error.__context__).__module__
    assert len(provider.requests) == 1, "a wire never sends twice"
    # The wire is as good as new.
    assert (await ask(wire, request)).text


@cases(REFUSALS, BREAKS, ANSWERS)
async def test_faults_of_a_call(case: Case, wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider):
    """Each fault is its typed error, after one request, and the next call works."""
    await check(send, wire, request_, fake_provider_env, case)


@cases(REFUSALS, BREAKS, STREAMS)
async def test_faults_of_a_stream(case: Case, wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider):
    """The same for streams."""
    await check(stream, wire, request_, fake_provider_env, case)


@pytest.mark.parametrize("fault", [Fault.truncated_json(), Fault.not_json()], ids=lambda fault: fault.name)
async def test_a_stream_of_garbage(fault: Fault, wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider):
    """What cannot be read never passes for a complete answer."""
    fake_provider_env.script(fault)
    with pytest.raises(InvalidAnswerError) as raised:
        await stream(wire, request_)
    assert raised.value.maybe_billed


async def test_a_finish_reason_is_never_made_up(wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider):
    """A stream that ends without one hands none out before it fails."""
    fake_provider_env.script(Fault.end_stream_early(after_chunks=2))
    reasons: list[str | None] = []

    async def read() -> None:
        async with wire.stream(request_, timeout=PATIENT) as chunks:
            reasons.extend([chunk.finish_reason async for chunk in chunks])

    with pytest.raises(ConnectionFailedError):
        await read()
    assert not any(reasons)


async def test_after_closing_it_is_as_before(wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider):
    """The next call on the same loop opens a new session, which is held back like the first."""
    await wire.send(request_, timeout=PATIENT)
    await wire.aclose()
    await wire.aclose()
    assert (await wire.send(request_, timeout=PATIENT)).text
    fake_provider_env.script(Fault.redirect(f"{fake_provider_env.url}/elsewhere"))
    with pytest.raises(BadRequestError, match="redirects"):
        await wire.send(request_, timeout=PATIENT)
    assert len(fake_provider_env.requests) == 3


@both_ways
async def test_a_stall_ends_at_the_deadline(
    ask: Ask, wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider
):
    """The deadline is for the whole call; the provider sees the client leave."""
    await ask(wire, request_)
    fake_provider_env.script(Fault.stall())
    with pytest.raises(DeadlineExceededError) as raised:
        await ask(wire, request_, timeout=SHORT)
    assert raised.value.maybe_billed
    await fake_provider_env.settled()
    assert fake_provider_env.requests[-1].client_left


async def test_a_stall_in_mid_stream_ends_at_the_deadline(
    wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider
):
    """What came before is handed out, then the deadline strikes."""
    await stream(wire, request_)
    fake_provider_env.script(Fault.stall_mid_stream(after_chunks=2))
    whole = StreamedAnswer()

    async def read() -> None:
        async with wire.stream(request_, timeout=SHORT) as chunks:
            async for chunk in chunks:
                whole.add(chunk)

    with pytest.raises(DeadlineExceededError) as raised:
        await read()
    assert raised.value.maybe_billed
    assert whole.text
    await fake_provider_env.settled()
    assert fake_provider_env.requests[-1].client_left


async def test_no_time_at_all(wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider):
    """A deadline that has passed sends nothing, so nothing is billed."""
    await wire.send(request_, timeout=PATIENT)
    for timeout in (0, -1):
        with pytest.raises(DeadlineExceededError) as raised:
            await wire.send(request_, timeout=timeout)
        assert not raised.value.maybe_billed
    assert len(fake_provider_env.requests) == 1


async def test_nobody_listens(wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider):
    """A refused connection is not billed."""
    request = replace(request_, route=replace(request_.route, base_url="http://127.0.0.1:9/v1"))
    for ask in (send, stream):
        with pytest.raises(ConnectionFailedError, match="cannot connect") as raised:
            await ask(wire, request)
        assert not raised.value.maybe_billed
    assert not fake_provider_env.requests


async def test_cancelling_closes_the_connection(wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider):
    """The provider sees at once that nobody waits any more."""
    fake_provider_env.script(Fault.stall())
    task = asyncio.create_task(wire.send(request_, timeout=PATIENT))
    await fake_provider_env.arrived(1, timeout=PATIENT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await fake_provider_env.settled()
    assert fake_provider_env.requests[0].client_left


async def test_leaving_a_stream_closes_the_connection(
    wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider
):
    """The provider stops writing: most of a long answer is never made."""
    fake_provider_env.script(Reply(text="word " * 400, seconds_per_chunk=0.01))
    async with wire.stream(request_, timeout=PATIENT) as chunks:
        async for chunk in chunks:
            if chunk.text:
                break
    await fake_provider_env.settled()
    assert fake_provider_env.requests[0].client_left
    assert fake_provider_env.requests[0].chunks_sent < 200


async def test_cancelling_a_stream_closes_the_connection(
    wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider
):
    """A task that is cancelled while it waits for the next piece leaves nothing open."""
    fake_provider_env.script(Fault.stall_mid_stream(after_chunks=1))
    begun = asyncio.Event()

    async def read() -> None:
        async with wire.stream(request_, timeout=PATIENT) as chunks:
            async for chunk in chunks:
                if chunk.text:
                    begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await fake_provider_env.settled()
    assert fake_provider_env.requests[0].client_left


async def test_many_calls_at_once(wire: Wire, request_: WireRequest, fake_provider_env: FakeProvider):
    """Concurrent calls keep their answers and their errors apart."""
    for number in range(20):
        fake_provider_env.script(Fault.server_error(503) if number % 2 else Reply(text=f"answer {number}"))
    results = await asyncio.gather(*(send(wire, request_) for _ in range(20)), return_exceptions=True)
    assert {result.text for result in results if isinstance(result, WireAnswer)} == {
        f"answer {n}" for n in range(0, 20, 2)
    }
    assert sum(isinstance(result, ProviderError) for result in results) == 10
