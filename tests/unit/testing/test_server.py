"""The server's life: script, records, departures, threads, closing."""

import asyncio
import http.client
import json
from decimal import Decimal

import aiohttp
import pytest
from pydantic import BaseModel

from llm_common.testing import ChatRequest, FakeProvider, Fault, Reply, serve_forever

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class City(BaseModel):
    name: str


async def _ask(session: aiohttp.ClientSession, provider: FakeProvider, **more: object) -> str:
    headers = {"Authorization": f"Bearer {provider.api_key}"}
    url = f"{provider.openai_url}/chat/completions"
    async with session.post(url, json={**BODY, **more}, headers=headers) as response:
        return str((await response.json())["choices"][0]["message"]["content"])


async def test_script_is_used_in_order_then_the_default(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """Texts, models and dicts answer one request each; after them the answer function speaks."""
    provider.script("first", City(name="Rome"), {"name": "Oslo"})
    answers = [await _ask(http, provider) for _ in range(4)]
    assert answers == ["first", '{"name":"Rome"}', '{"name": "Oslo"}', 'You wrote: "hi".']


async def test_refused_requests_use_nothing_up(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A request that is refused leaves the script alone."""
    provider.script("kept")
    async with http.post(f"{provider.openai_url}/chat/completions", json=BODY) as response:
        assert response.status == 401
    assert await _ask(http, provider) == "kept"


async def test_endpoint_restricts_an_item(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A fault for another endpoint waits for it."""
    provider.script(Fault.server_error(), endpoint="search")
    assert await _ask(http, provider) == 'You wrote: "hi".'
    assert provider.unused == 1


async def test_concurrent_requests_share_the_script(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """Under concurrency each item is used exactly once."""
    provider.script(*[f"answer {n}" for n in range(50)])
    answers = await asyncio.gather(*[_ask(http, provider) for _ in range(50)])
    assert sorted(answers) == sorted(f"answer {n}" for n in range(50))
    assert provider.billed_usd == sum(request.cost_usd or Decimal(0) for request in provider.requests)


async def test_records(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A record has the request without its key, and cannot be changed from outside."""
    await _ask(http, provider)
    (request,) = provider.requests
    assert (request.method, request.path, request.provider) == ("POST", "/v1/chat/completions", "openai")
    assert request.endpoint == "chat"
    assert request.body == BODY
    assert request.received_at.utcoffset().total_seconds() == 0
    assert provider.api_key not in repr(request)
    provider.requests.clear()
    assert len(provider.requests) == 1


async def test_client_that_leaves_a_stream(provider: FakeProvider) -> None:
    """A client that leaves in mid-stream is recorded with what it had got, and billed for that."""
    provider.script(Reply(text="word " * 200, seconds_per_chunk=0.02))
    headers = {"Authorization": f"Bearer {provider.api_key}"}
    async with aiohttp.ClientSession() as session:
        url = f"{provider.openai_url}/chat/completions"
        async with session.post(url, json={**BODY, "stream": True}, headers=headers) as response:
            while b"word" not in await response.content.readline():
                pass
            response.close()
    await provider.settled()
    (request,) = provider.requests
    assert request.outcome == "disconnected"
    assert 1 <= request.chunks_sent < 100
    assert Decimal("0.000005") < request.cost_usd < Decimal("0.0005")


async def test_client_that_leaves_before_a_late_answer(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A whole answer is billed even if nobody waits for it: the model has worked."""
    provider.script(Reply(text="late", delay=60))
    asking = asyncio.create_task(_ask(http, provider))
    await provider.arrived(1)
    asking.cancel()
    await provider.settled()
    assert (provider.requests[0].outcome, provider.requests[0].cost_usd) == ("disconnected", Decimal("0.000009"))


async def test_waiting_for_arrivals(http: aiohttp.ClientSession, provider: FakeProvider) -> None:
    """A test can wait until a request has arrived, and until all are done; both give up in time."""
    provider.script(Fault.stall())
    asking = asyncio.create_task(_ask(http, provider))
    await provider.arrived(1)
    assert provider.requests[0].outcome == "fault:stall"
    with pytest.raises(TimeoutError, match="still worked on"):
        await provider.settled(timeout=0.01)
    asking.cancel()
    await provider.settled()
    with pytest.raises(TimeoutError, match="2 requests did not arrive"):
        await provider.arrived(2, timeout=0.01)


async def test_closing_does_not_wait_for_stalled_clients() -> None:
    """The server closes, whoever still waits or idles, and nobody is said to have left."""
    async with aiohttp.ClientSession() as session:
        async with FakeProvider() as provider:
            assert await _ask(session, provider) == 'You wrote: "hi".'
            provider.script(Fault.stall(), Fault.stall_mid_stream(0), Reply(text="late", delay=60))
            asking = [asyncio.create_task(_ask(session, provider)) for _ in range(3)]
            await provider.arrived(4)
            async with asyncio.timeout(10):  # only against hanging for ever
                await provider.close()
        results = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(result, aiohttp.ClientError) for result in results)
    assert {request.client_left for request in provider.requests} == {False}


async def test_a_failing_answer_function_is_not_swallowed(http: aiohttp.ClientSession) -> None:
    """What an answer function raises is raised again when the server closes."""

    def answer(_request: ChatRequest) -> Reply:
        raise ZeroDivisionError("a mistake in the test")

    with pytest.raises(ExceptionGroup) as caught:
        async with (
            FakeProvider(answer) as provider,
            http.post(
                f"{provider.openai_url}/chat/completions",
                json=BODY,
                headers={"Authorization": f"Bearer {provider.api_key}"},
            ) as response,
        ):
            assert response.status == 500
    assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
    assert provider.requests[0].outcome == "broken:ZeroDivisionError"


def test_serving_in_a_thread() -> None:
    """Plain blocking code is served from another thread, can script and can look at the records."""
    with FakeProvider.serve_in_thread(answer=lambda _: Reply(text="threaded")) as provider:
        host, port = provider.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        provider.script("scripted")
        texts = []
        for _ in range(2):
            headers = {"Authorization": f"Bearer {provider.api_key}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/chat/completions", json.dumps(BODY), headers)
            texts.append(json.loads(connection.getresponse().read())["choices"][0]["message"]["content"])
        connection.close()
        assert [request.outcome for request in provider.requests] == ["answered", "answered"]
    assert texts == ["scripted", "threaded"]


def test_a_thread_that_cannot_listen_says_why() -> None:
    """A port that is taken is an error at once, not a server that never starts."""
    with FakeProvider.serve_in_thread() as first:
        port = int(first.url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match=str(port)), FakeProvider.serve_in_thread(port=port):
            pass


async def test_waiting_across_loops() -> None:
    """A coroutine can wait for a server that runs on another thread's loop."""
    with FakeProvider.serve_in_thread() as provider:
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(_ask(session, provider))
            await provider.arrived(1)
            assert await asking == 'You wrote: "hi".'
            await provider.settled()


async def test_serve_forever(http: aiohttp.ClientSession) -> None:
    """In the foreground it says when it is ready, serves, and stops when it is cancelled."""
    ready: asyncio.Future[FakeProvider] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve_forever(ready=ready.set_result, api_key="given"))
    provider = await ready
    assert provider.api_key == "given"
    assert await _ask(http, provider) == 'You wrote: "hi".'
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(aiohttp.ClientConnectorError):
        await _ask(http, provider)


def test_environment() -> None:
    """The environment has an address and the key for every provider."""
    environment = FakeProvider(port=1234, api_key="k").environment()
    assert environment == {
        "OPENAI_BASE_URL": "http://127.0.0.1:1234/v1",
        "OPENROUTER_API_BASE": "http://127.0.0.1:1234/api/v1",
        "ZAI_API_BASE": "http://127.0.0.1:1234/api/paas/v4",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1234",
        "OPENAI_API_KEY": "k",
        "OPENROUTER_API_KEY": "k",
        "ZAI_API_KEY": "k",
        "ANTHROPIC_API_KEY": "k",
    }


async def test_what_was_scripted_can_be_forgotten(fake_provider: FakeProvider):
    """The answer function speaks again at once."""
    fake_provider.script("one", "two")
    assert fake_provider.unscript() == 2
    assert (fake_provider.unused, fake_provider.unscript()) == (0, 0)
