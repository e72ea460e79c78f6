"""Whatever bytes a provider answers with, only typed errors come out, and the call is settled.

Real answers of each provider, whole and streamed, are recorded first and then cut, spoilt and mixed; beside them come
JSON of the right words in the wrong places, and plain noise.
"""

import asyncio
import json
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Literal

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from llm_common.exceptions import LLMError
from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import Breakers
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import LLMClient
from llm_common.money import to_nano
from llm_common.settings import Settings
from llm_common.testing import FakeProvider
from tests.faults.llm.fault_matrix import ENDPOINTS, Endpoint
from tests.unit.llm.test_response_parsing import shaped

pytestmark = [
    # LiteLLM silences this remark about itself when it is imported; pytest brings it back.
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    # What pydantic says, in LiteLLM's own objects, of values that no provider should send.
    pytest.mark.filterwarnings("ignore:.*Pydantic serializer warnings:UserWarning"),
]

Way = Literal["complete", "structured", "stream", "embed"]
EMBEDDERS = {"openai": "text-embedding-3-small", "zai": "embedding-3"}
ASKED = [
    *((endpoint, way) for endpoint in ENDPOINTS for way in ("complete", "structured", "stream")),
    *((endpoint, "embed") for endpoint in ENDPOINTS if endpoint.provider == "openai"),
]


class Verdict(BaseModel):
    guilty: bool
    reason: str


@dataclass(frozen=True)
class Answer:
    """What goes over the wire, whoever asks."""

    status: int
    content_type: str
    body: bytes


@dataclass
class Parrot:
    """Says `answer`; without one it passes the request on to the real thing and remembers what that said."""

    behind: str
    answer: Answer | None = None
    heard: list[bytes] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.answer is not None:
            return web.Response(status=self.answer.status, content_type=self.answer.content_type, body=self.answer.body)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "host"}
        async with (
            ClientSession() as session,
            session.request(request.method, f"{self.behind}{request.path_qs}", data=body, headers=headers) as answered,
        ):
            self.heard.append(await answered.read())
            return web.Response(status=answered.status, content_type=answered.content_type, body=self.heard[-1])


@dataclass
class Bench:
    runner: asyncio.Runner
    parrot: Parrot
    clients: dict[str, LLMClient]
    ledger: LocalLedger

    def ask(self, endpoint: Endpoint, way: Way, answer: Answer | None) -> LLMError | None:
        self.parrot.answer = answer
        return self.runner.run(self._ask(self.clients[endpoint.wire], endpoint, way))

    async def _ask(self, client: LLMClient, endpoint: Endpoint, way: Way) -> LLMError | None:
        model = f"{endpoint.provider}/{endpoint.model}"
        before, cost = self.ledger.spent_today_nano, 0
        error: LLMError | None = None
        try:
            if way == "stream":
                async with client.stream("Hi", model, max_tokens=50) as stream:
                    async for _ in stream:
                        pass
                cost = to_nano(stream.completion.cost_usd)
            elif way == "embed":
                embedded = await client.embed(["Hi"], f"{endpoint.provider}/{EMBEDDERS[endpoint.provider]}")
                cost = to_nano(embedded.cost_usd)
            else:
                schema = Verdict if way == "structured" else None
                answered = await client.complete("Hi", model, max_tokens=50, response_model=schema)
                cost = to_nano(answered.cost_usd)
        except LLMError as raised:
            error, cost = raised, to_nano(raised.cost_usd)
        assert self.ledger._holds == {}, "nothing stays reserved"
        assert self.ledger.spent_today_nano - before == cost >= 0
        return error


@pytest.fixture(scope="module")
def bench() -> Generator[Bench]:
    with FakeProvider.serve_in_thread() as provider, asyncio.Runner() as runner:
        parrot = Parrot(provider.url)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", parrot.handle)
        server = TestServer(app)
        runner.run(server.start_server())
        url = str(server.make_url("")).rstrip("/")
        names = {endpoint.provider for endpoint in ENDPOINTS}
        ledger = LocalLedger()
        clients = {
            wire: LLMClient(
                cost_tracker=ledger,
                wire=wire,
                retry=RetryPolicy(max_attempts=1),
                breakers=Breakers(),
                settings=Settings(
                    keys=dict.fromkeys(names, provider.api_key),
                    urls={name: getattr(provider, f"{name}_url").replace(provider.url, url) for name in names},
                ),
            )
            for wire in ("direct", "litellm")
        }
        yield Bench(runner, parrot, clients, ledger)
        for client in clients.values():
            runner.run(client.aclose())
        runner.run(server.close())


def spoilt(real: bytes) -> st.SearchStrategy[bytes]:
    """The real answer with a piece of it replaced by something else, or with nothing behind it."""
    places = st.tuples(st.integers(0, len(real)), st.integers(0, len(real))).map(sorted)
    replaced = st.builds(lambda at, noise: real[: at[0]] + noise + real[at[1] :], places, noises())
    return replaced | st.integers(0, len(real)).map(lambda end: real[:end])


def noises() -> st.SearchStrategy[bytes]:
    values = shaped(4).map(lambda value: json.dumps(value).encode())
    return st.binary(max_size=60) | values | values.map(lambda value: b"data: " + value + b"\n\n")


def answers(real: bytes) -> st.SearchStrategy[Answer]:
    return st.builds(
        Answer,
        status=st.sampled_from([200] * 12 + [204, 206, 400, 401, 404, 429, 500, 503]),
        content_type=st.sampled_from(["application/json", "text/event-stream", "text/plain", "text/html", "x/y"]),
        body=spoilt(real) | noises() | st.lists(noises(), max_size=4).map(b"".join),
    )


@pytest.mark.parametrize(("endpoint", "way"), ASKED, ids=lambda value: getattr(value, "name", value))
def test_arbitrary_bytes(endpoint: Endpoint, way: Way, bench: Bench):
    """An answer or an `LLMError`, whose cost is what the ledger was charged; then the client works as before."""
    assert bench.ask(endpoint, way, None) is None
    real = bench.parrot.heard[-1]

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(answers(real))
    def check(answer: Answer) -> None:
        bench.ask(endpoint, way, answer)

    check()
    assert bench.ask(endpoint, way, None) is None
