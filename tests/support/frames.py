"""How deep a call goes: `python -m tests.support.frames` prints our frames to the request and to the reserve.

Counted when aiohttp is asked to send, and when psycopg's transport is asked for `reserve_cost`. The reserve is carried
to its end in a task of its own, so its frames begin there.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from types import FrameType

import aiohttp

from benchmarks.postgres import server
from llm_common.cost_tracker import CostTracker
from llm_common.db.database import Database
from llm_common.db.psycopg import DsnTransport
from llm_common.db.transport import Json
from llm_common.llm_client import LLMClient
from llm_common.settings import Settings
from llm_common.testing import FakeProvider

__all__ = ["frames"]


def _ours(frame: FrameType | None) -> list[str]:
    found: list[str] = []
    while frame is not None:
        if f"{os.sep}llm_common{os.sep}" in frame.f_code.co_filename:
            found.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return found[::-1]


async def frames(dsn: str) -> dict[str, list[str]]:
    """Our frames, outermost first, for `request` and `reserve`."""
    seen: dict[str, list[str]] = {}
    send, call = aiohttp.ClientSession._request, DsnTransport.call

    async def sending(self: aiohttp.ClientSession, *arguments: object, **options: object) -> object:
        seen["request"] = _ours(sys._getframe())
        return await send(self, *arguments, **options)

    async def calling(self: DsnTransport, function: str, arguments: Mapping[str, Json]) -> Json:
        if function == "reserve_cost":
            seen["reserve"] = _ours(sys._getframe())
        return await call(self, function, arguments)

    aiohttp.ClientSession._request, DsnTransport.call = sending, calling
    try:
        with FakeProvider.serve_in_thread() as provider:
            settings = Settings.from_environment(provider.environment())
            tracker = CostTracker(Database.of(dsn), "1.00")
            async with tracker, LLMClient(cost_tracker=tracker, settings=settings) as llm:
                await llm.chat("hi", "openai/gpt-4o", max_tokens=5)
    finally:
        aiohttp.ClientSession._request, DsnTransport.call = send, call
    return seen


if __name__ == "__main__":
    with server(None) as postgres:
        for name, found in asyncio.run(frames(postgres.create("frames"))).items():
            sys.stdout.write(f"{name}: {len(found)} frames\n" + "".join(f"  {frame}\n" for frame in found))
