"""What only the direct wire does: its own pool, its own limits, its own bytes."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from llm_common.exceptions import BadRequestError, ConnectionFailedError, InvalidAnswerError
from llm_common.llm.providers.direct import DirectWire
from llm_common.llm.wire import Route, WireRequest
from llm_common.testing import FakeProvider, Fault, Reply

PATIENT = 60.0


@pytest.fixture
async def wire() -> AsyncGenerator[DirectWire]:
    wire = DirectWire()
    yield wire
    await wire.aclose()


def ask(base_url: str, *, api_key: str | None = "sk-test-key", prompt: object = "hello", **more: object) -> WireRequest:
    route = Route(asked="m", provider="openai", name="gpt-4o", wire="direct", base_url=base_url, api_key=api_key)
    return WireRequest(route=route, messages=({"role": "user", "content": prompt},), extra=more)


def ask_fake(provider: FakeProvider, **more: object) -> WireRequest:
    return ask(provider.openai_url, api_key=provider.api_key, **more)


async def test_connections_are_used_again(wire: DirectWire):
    """Calls and complete streams in turn share one connection."""
    peers: list[object] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        peers.append(request.transport and request.transport.get_extra_info("peername"))
        if not (await request.json())["stream"]:
            return web.json_response({"choices": [{"message": {"content": "hi"}}]})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n')
        await response.write(b"data: [DONE]\n\n")
        await asyncio.sleep(0.02)  # the end of the response comes in a packet of its own
        return response

    app = web.Application()
    app.router.add_post("/chat/completions", answer)
    async with TestServer(app) as server:
        request = ask(str(server.make_url("")).rstrip("/"))
        for _ in range(3):
            await wire.send(request, timeout=PATIENT)
            async with wire.stream(request, timeout=PATIENT) as chunks:
                assert [chunk.text async for chunk in chunks] == ["hi"]
        assert len(set(peers)) == 1
        await wire.aclose()


async def test_a_server_that_does_not_stream(wire: DirectWire):
    """A whole answer where a stream was asked for arrives as one piece."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]})

    app = web.Application()
    app.router.add_post("/chat/completions", answer)
    async with TestServer(app) as server:
        async with wire.stream(ask(str(server.make_url("")).rstrip("/")), timeout=PATIENT) as chunks:
            received = [chunk async for chunk in chunks]
        assert [(chunk.text, chunk.finish_reason) for chunk in received] == [("hi", "stop")]
        await wire.aclose()


async def test_a_redirect_does_not_carry_the_key_away(wire: DirectWire, fake_provider_env: FakeProvider):
    """The other host never hears of the request."""
    with FakeProvider.serve_in_thread() as elsewhere:
        fake_provider_env.script(Fault.redirect(f"{elsewhere.openai_url}/chat/completions"))
        with pytest.raises(BadRequestError, match="redirects to 127"):
            await wire.send(ask_fake(fake_provider_env), timeout=PATIENT)
        assert not elsewhere.requests


async def test_an_answer_without_end_is_refused(fake_provider_env: FakeProvider):
    """Memory is bounded by the size of an answer."""
    wire = DirectWire(largest_answer=1000)
    fake_provider_env.script(Reply(text="x" * 2000))
    with pytest.raises(InvalidAnswerError, match="size limit"):
        await wire.send(ask_fake(fake_provider_env), timeout=PATIENT)
    await wire.aclose()


async def test_a_slow_reader_slows_the_provider_down(wire: DirectWire, fake_provider_env: FakeProvider):
    """What nobody has read yet waits at the provider, not in our memory."""
    pieces = tuple("x" * 100_000 for _ in range(400))
    fake_provider_env.script(Reply(text="".join(pieces), pieces=pieces))
    async with wire.stream(ask_fake(fake_provider_env), timeout=PATIENT) as chunks:
        await anext(chunks)
        sent, before = 0, -1
        while sent != before:
            await asyncio.sleep(0.2)
            sent, before = fake_provider_env.requests[0].chunks_sent, sent
        assert sent < 200
        assert sum([len(chunk.text) async for chunk in chunks]) == 40_000_000


async def test_a_prompt_of_megabytes(wire: DirectWire, fake_provider_env: FakeProvider):
    """It is sent in pieces, without a remark from aiohttp about blocking the loop."""
    prompt = "é" * 1_500_000
    await wire.send(ask_fake(fake_provider_env, prompt=prompt), timeout=PATIENT)
    assert fake_provider_env.requests[0].body["messages"][0]["content"] == prompt


async def test_proxies_of_the_environment(
    wire: DirectWire, fake_provider_env: FakeProvider, monkeypatch: pytest.MonkeyPatch
):
    """HTTP_PROXY is used, NO_PROXY is kept out of it."""
    monkeypatch.setenv("HTTP_PROXY", fake_provider_env.url)
    request = ask("http://models.invalid/v1", api_key=fake_provider_env.api_key)
    assert (await wire.send(request, timeout=PATIENT)).text
    assert fake_provider_env.requests[0].headers["Host"] == "models.invalid"
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(ConnectionFailedError) as raised:
        await wire.send(ask("http://other.invalid/v1"), timeout=PATIENT)
    assert not raised.value.maybe_billed
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert (await wire.send(ask_fake(fake_provider_env), timeout=PATIENT)).text


@pytest.mark.parametrize(
    "base_url", ["", "api.example.com/v1", "ftp://127.0.0.1/v1", "http://", "http://a:b@127.0.0.1"]
)
async def test_a_base_url_that_is_none(wire: DirectWire, base_url: str):
    """It is the caller's error, typed, and nothing was sent."""
    with pytest.raises(BadRequestError) as raised:
        await wire.send(ask(base_url), timeout=PATIENT)
    assert not raised.value.maybe_billed


@pytest.mark.parametrize("key", ["sk-with-newline\n", "sk-\r\nX-Evil: 1"])
async def test_a_key_that_no_header_can_carry(wire: DirectWire, fake_provider_env: FakeProvider, key: str):
    """A key read from a file with its newline is refused without being shown."""
    with pytest.raises(BadRequestError) as raised:
        await wire.send(ask(fake_provider_env.openai_url, api_key=key), timeout=PATIENT)
    assert not raised.value.maybe_billed
    assert key.strip() not in str(raised.value)
    assert not fake_provider_env.requests


async def test_what_json_cannot_carry(wire: DirectWire, fake_provider_env: FakeProvider):
    """Values without a JSON form are the caller's error."""
    for odd in (object(), "\ud800"):
        with pytest.raises(BadRequestError, match="JSON cannot carry"):
            await wire.send(ask_fake(fake_provider_env, prompt=odd), timeout=PATIENT)
    assert not fake_provider_env.requests


async def test_extra_headers_and_body(wire: DirectWire, fake_provider_env: FakeProvider):
    """The OpenAI SDK's `extra_headers` and `extra_body` work, but cannot replace model, messages or stream."""
    more = {"extra_headers": {"X-Title": "test"}, "extra_body": {"top_k": 5, "model": "x"}, "stream": True, "seed": 1}
    await wire.send(ask_fake(fake_provider_env, **more), timeout=PATIENT)
    sent = fake_provider_env.requests[0]
    assert sent.headers["X-Title"] == "test"
    assert {name: sent.body[name] for name in ("model", "stream", "seed", "top_k")} == {
        "model": "gpt-4o",
        "stream": False,
        "seed": 1,
        "top_k": 5,
    }
    assert "extra_body" not in sent.body
    assert "extra_headers" not in sent.body
