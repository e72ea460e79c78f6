"""Bare HTTP clients with `json.loads`: what the request itself costs."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.contestants.task import KEY, MESSAGES, MODEL, Analysis, Client

__all__ = ["over_aiohttp", "over_httpx"]

_BODY: Final = {"model": MODEL, "messages": MESSAGES}
_STRUCTURED: Final = {
    **_BODY,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "Analysis", "schema": Analysis.model_json_schema()},
    },
}
_STREAMED: Final = {**_BODY, "stream": True, "stream_options": {"include_usage": True}}
_HEADERS: Final = {"Authorization": f"Bearer {KEY}"}


@asynccontextmanager
async def over_aiohttp(url: str) -> AsyncGenerator[Client]:
    import aiohttp

    async with aiohttp.ClientSession(headers=_HEADERS) as session:

        async def answer(body: dict[str, Any]) -> str:
            async with session.post(f"{url}/chat/completions", json=body) as response:
                return _text(await response.read())

        async def call() -> str:
            return await answer(_BODY)

        async def structured() -> Analysis:
            return Analysis.model_validate_json(await answer(_STRUCTURED))

        async def stream() -> AsyncIterator[str]:
            async with session.post(f"{url}/chat/completions", json=_STREAMED) as response:
                async for line in response.content:
                    if piece := _piece(line.decode()):
                        yield piece

        yield Client(call, structured, stream)


@asynccontextmanager
async def over_httpx(url: str) -> AsyncGenerator[Client]:
    import httpx

    async with httpx.AsyncClient(headers=_HEADERS) as client:

        async def call() -> str:
            return _text((await client.post(f"{url}/chat/completions", json=_BODY)).content)

        async def structured() -> Analysis:
            response = await client.post(f"{url}/chat/completions", json=_STRUCTURED)
            return Analysis.model_validate_json(_text(response.content))

        async def stream() -> AsyncIterator[str]:
            async with client.stream("POST", f"{url}/chat/completions", json=_STREAMED) as response:
                async for line in response.aiter_lines():
                    if piece := _piece(line):
                        yield piece

        yield Client(call, structured, stream)


def _text(body: bytes) -> str:
    return json.loads(body)["choices"][0]["message"]["content"]


def _piece(line: str) -> str:
    if not line.startswith("data: ") or "[DONE]" in line:
        return ""
    choices = json.loads(line[6:])["choices"]
    return choices[0]["delta"].get("content") or "" if choices else ""
