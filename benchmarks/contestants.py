"""The ways to call a model, each as its own documentation shows it, without retries.

`python -m benchmarks.contestants NAME URL CALLS STREAMS CONCURRENCY` prints what NAME took.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from benchmarks.instant_server import ANSWER

__all__ = ["CONTESTANTS"]

MODEL: Final = "gpt-6-luna"
MESSAGES: Final = [
    {"role": "system", "content": "You analyse legislation. " * 10},
    {"role": "user", "content": "What does this bill change, for whom, and at what cost? " * 5},
]
_BODY: Final = {"model": MODEL, "messages": MESSAGES}
_STREAMED: Final = {**_BODY, "stream": True, "stream_options": {"include_usage": True}}
_HEADERS: Final = {"Authorization": "Bearer key"}


@dataclass(frozen=True)
class Client:
    """Both give the answer's text."""

    call: Callable[[], Awaitable[str]]
    stream: Callable[[], Awaitable[str]]


@asynccontextmanager
async def _ours(url: str) -> AsyncGenerator[Client]:
    """With all that it does around the request: route, price, reserve, breaker, settle."""
    from llm_common import LLMClient
    from llm_common.local_ledger import LocalLedger

    async with LLMClient("openai", "key", base_url=url, cost_tracker=LocalLedger()) as llm:

        async def call() -> str:
            return await llm.chat(MESSAGES, MODEL)

        async def stream() -> str:
            async with llm.stream(MESSAGES, MODEL) as deltas:
                return "".join([delta.text async for delta in deltas])

        yield Client(call, stream)


@asynccontextmanager
async def _aiohttp(url: str) -> AsyncGenerator[Client]:
    import aiohttp

    async with aiohttp.ClientSession(headers=_HEADERS) as session:

        async def call() -> str:
            async with session.post(f"{url}/chat/completions", json=_BODY) as response:
                return json.loads(await response.read())["choices"][0]["message"]["content"]

        async def stream() -> str:
            async with session.post(f"{url}/chat/completions", json=_STREAMED) as response:
                return await _joined(response.content)

        yield Client(call, stream)


@asynccontextmanager
async def _httpx(url: str) -> AsyncGenerator[Client]:
    import httpx

    async with httpx.AsyncClient(headers=_HEADERS) as client:

        async def call() -> str:
            response = await client.post(f"{url}/chat/completions", json=_BODY)
            return json.loads(response.content)["choices"][0]["message"]["content"]

        async def stream() -> str:
            async with client.stream("POST", f"{url}/chat/completions", json=_STREAMED) as response:
                return await _joined(response.aiter_lines())

        yield Client(call, stream)


@asynccontextmanager
async def _openai(url: str) -> AsyncGenerator[Client]:
    async with import_module("openai").AsyncOpenAI(api_key="key", base_url=url, max_retries=0) as client:

        async def call() -> str:
            return (await client.chat.completions.create(**_BODY)).choices[0].message.content

        async def stream() -> str:
            return await _joined_objects(await client.chat.completions.create(**_STREAMED))

        yield Client(call, stream)


@asynccontextmanager
async def _litellm(url: str) -> AsyncGenerator[Client]:
    litellm: Any = import_module("litellm")
    where = {"model": f"openai/{MODEL}", "api_base": url, "api_key": "key", "num_retries": 0}

    async def call() -> str:
        return (await litellm.acompletion(**{**_BODY, **where})).choices[0].message.content

    async def stream() -> str:
        return await _joined_objects(await litellm.acompletion(**{**_STREAMED, **where}))

    yield Client(call, stream)


async def _joined(lines: AsyncIterable[bytes] | AsyncIterable[str]) -> str:
    texts: list[str] = []
    async for raw in lines:
        line = raw.decode() if isinstance(raw, bytes) else raw
        if line.startswith("data: ") and "[DONE]" not in line:
            choices = json.loads(line[6:])["choices"]
            texts.append(choices[0]["delta"].get("content") or "" if choices else "")
    return "".join(texts)


async def _joined_objects(chunks: AsyncIterable[Any]) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])


CONTESTANTS: Final[dict[str, Callable[[str], AbstractAsyncContextManager[Client]]]] = {
    "llm_common": _ours,
    "aiohttp": _aiohttp,
    "httpx": _httpx,
    "openai": _openai,
    "litellm": _litellm,
}


async def _cost(work: Callable[[], Awaitable[str]], times: int, concurrency: int) -> tuple[float, float]:
    """Milliseconds of CPU and of the clock for each time, after a first time that warms everything up."""

    async def worker(share: int) -> None:
        for _ in range(share):
            if await work() != ANSWER:
                raise RuntimeError("this is not the whole answer")

    await asyncio.gather(*(worker(1) for _ in range(concurrency)))
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker(times // concurrency) for _ in range(concurrency)))
    done = times // concurrency * concurrency
    return (time.process_time() - cpu) * 1000 / done, (time.perf_counter() - wall) * 1000 / done


async def _main(name: str, url: str, calls: int, streams: int, concurrency: int) -> None:
    async with CONTESTANTS[name](url) as client:
        call = await _cost(client.call, calls, concurrency)
        stream = await _cost(client.stream, streams, min(10, concurrency))
    print(json.dumps({"call_cpu": call[0], "call_wall": call[1], "stream_cpu": stream[0], "stream_wall": stream[1]}))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], *(int(number) for number in sys.argv[3:6])))
