"""Many streams at once, slow readers, and streams that are cut off from outside: nobody starves, nothing is unpaid."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from llm_common.ledger.local import LocalLedger
from llm_common.llm.breaker import Breakers
from llm_common.llm.wire import WireName
from llm_common.llm_client import LLMClient
from llm_common.testing import FakeProvider, Fault, Reply
from tests.support.programs import running

# LiteLLM silences this remark about itself when it is imported; pytest brings it back.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")

STREAMS, ROUNDS = 1000, 3
PATIENT = 300.0
MODEL = "openai/gpt-4o"

both_wires = pytest.mark.parametrize("wire", ["direct", "litellm"])


class Lockstep:
    """A provider that says its next word to anybody only when everybody has got the last one."""

    def __init__(self) -> None:
        self.heard = 0
        self._next_round = [asyncio.Event() for _ in range(ROUNDS)]

    def hear(self) -> None:
        self.heard += 1
        if self.heard % STREAMS == 0:
            self._next_round[self.heard // STREAMS - 1].set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in self._next_round:
            await response.write(b'data: {"choices":[{"delta":{"content":"word "}}]}\n\n')
            await event.wait()
        await response.write(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        return response


@asynccontextmanager
async def served(provider: Lockstep) -> AsyncGenerator[str]:
    app = web.Application()
    app.router.add_post("/chat/completions", provider.handle)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_a_thousand_streams_at_once_go_on_together():
    """Each has its first word before any has its second, and all end: one that starved would hold up all others."""
    provider, ledger = Lockstep(), LocalLedger()

    async def read(llm: LLMClient) -> str:
        async with llm.stream("Hi", "my-model", max_tokens=50, timeout=PATIENT) as stream:
            async for _ in stream:
                provider.hear()
        return stream.completion.text

    async with served(provider) as url, LLMClient("openai", base_url=url, cost_tracker=ledger) as llm:
        texts = await asyncio.gather(*(read(llm) for _ in range(STREAMS)))
    assert texts == ["word " * ROUNDS] * STREAMS
    assert ledger._holds == {}
    assert ledger.spent_today_nano > 0


@both_wires
async def test_a_slow_reader_slows_the_provider_down(wire: WireName, fake_provider_env: FakeProvider):
    """Of 50 MB that nobody reads, the most part is never sent: memory holds what sockets hold, and no queue of ours."""
    count = 500
    pieces = tuple(f"{number:06} " + "x" * 99_993 for number in range(count))
    fake_provider_env.script("warm up", Reply(text="".join(pieces), pieces=pieces))
    async with LLMClient(cost_tracker=LocalLedger(), wire=wire) as llm:
        await llm.chat("Hi", MODEL, timeout=PATIENT)
        async with llm.stream("Hi", MODEL, timeout=PATIENT) as stream:
            deltas = aiter(stream)
            await anext(deltas)
            sent, before = 0, -1
            while sent != before:
                await asyncio.sleep(0.3)
                sent, before = fake_provider_env.requests[1].chunks_sent, sent
            assert 0 < sent < count / 2


@both_wires
async def test_a_stream_that_is_cancelled_is_settled(wire: WireName, fake_provider_env: FakeProvider):
    """A task that is cancelled while it waits for the next piece: the connection is gone, what came is charged."""
    ledger, begun = LocalLedger(), asyncio.Event()
    fake_provider_env.script(Fault.stall_mid_stream())

    async def read(llm: LLMClient) -> None:
        async with llm.stream("Count one two three!", MODEL, max_tokens=100_000, timeout=PATIENT) as stream:
            async for _ in stream:
                begun.set()

    async with LLMClient(cost_tracker=ledger, wire=wire, breakers=Breakers()) as llm:
        task = asyncio.create_task(read(llm))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ledger._holds == {}
        # 100,000 tokens would be a dollar: what is charged is what came, not what might have come.
        assert 0 < ledger.spent_today_nano < 10_000_000
        await fake_provider_env.settled()
        assert fake_provider_env.requests[0].client_left


WORKER = """
import asyncio, signal
from llm_common import LLMClient

async def main():
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with LLMClient(model="openai/gpt-4o") as llm:
        async with llm.stream("Count one two three!", max_tokens=100, step="worker") as stream:
            async for delta in stream:
                print(delta.text, flush=True)

asyncio.run(main())
"""


def test_a_worker_that_is_told_to_stop_settles_its_stream(dsn: str, fake_provider_env: FakeProvider, monkeypatch):
    """SIGTERM, as from a container's orchestrator: the row is there before the process is gone."""
    monkeypatch.setenv("DATABASE_URL", dsn)
    fake_provider_env.script(Fault.stall_mid_stream())
    with running("-c", WORKER) as worker:
        assert worker.line()
        worker.process.send_signal(signal.SIGTERM)
        worker.finish(code=1)
        assert "CancelledError" in worker.errors()
    asyncio.run(fake_provider_env.settled())
    assert fake_provider_env.requests[0].client_left
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT status, cost_usd > 0 FROM cost_tracking WHERE step = 'worker'").fetchall()
        assert rows == [("cancelled", True)]
        assert connection.execute("SELECT count(*) FROM cost_reservations").fetchone() == (0,)
