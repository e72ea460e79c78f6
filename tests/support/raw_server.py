"""A server that says exactly the bytes it was told, whatever it is asked: for what no well-behaved server sends."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

__all__ = ["DONE", "RawServer", "Said", "document", "event", "raw_server", "stream_of"]

Json = dict[str, Any]
USAGE: Json = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Said:
    """One answer: its status, its headers, its body."""

    body: bytes
    status: str = "200 OK"
    content_type: str = "application/json"


@dataclass
class RawServer:
    """`requests` are the bodies that came in, `paths` where they went."""

    answer: Callable[[Json], Said]
    url: str = ""
    requests: list[Json] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.paths.append(head.split(b" ", 2)[1].decode())
                size = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length")
                    ),
                    0,
                )
                self.requests.append(json.loads(await reader.readexactly(size) or b"{}"))
                said = self.answer(self.requests[-1])
                writer.write(
                    f"HTTP/1.1 {said.status}\r\ncontent-type: {said.content_type}\r\n"
                    f"content-length: {len(said.body)}\r\n\r\n".encode()
                    + said.body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def raw_server(answer: Callable[[Json], Said] | Said | bytes) -> AsyncGenerator[RawServer]:
    """The server on loopback; `url` has no path."""
    if isinstance(answer, bytes):
        answer = Said(answer, content_type="text/event-stream" if answer.startswith(b"data:") else "application/json")
    said = answer
    server = RawServer(said if callable(said) else lambda _: said)
    listener = await asyncio.start_server(server.talk, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()


def document(message: Mapping[str, Any], finish: str | None = "stop", usage: object = USAGE, **more: Any) -> bytes:
    """A whole answer of OpenAI's; `usage=...` (the dots) leaves it out."""
    body: Json = {
        "id": "c",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        **more,
    }
    return json.dumps(body if usage is ... else body | {"usage": usage}).encode()


def event(delta: Mapping[str, Any] | None = None, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    """One event of a stream of OpenAI's."""
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [choice], **more}).encode() + b"\n\n"


def stream_of(*deltas: Mapping[str, Any], finish: str = "stop", usage: object = USAGE) -> bytes:
    """A whole stream of OpenAI's."""
    last = b"" if usage is ... else b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"
    return b"".join(map(event, deltas)) + event(None, finish) + last + DONE
