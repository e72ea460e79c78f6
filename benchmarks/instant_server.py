"""A provider that costs next to nothing: a fixed answer, a structured one, or a stream, as the request wants it.

`python -m benchmarks.instant_server` prints its base URL and serves until its standard input closes.
"""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from typing import Final, cast

__all__ = ["ANSWER", "CHUNKS", "IMPACTS"]

CHUNKS: Final = 100
_WORDS: Final = [f"word{number:03} and some more. " for number in range(CHUNKS)]
ANSWER: Final = "".join(_WORDS)
IMPACTS: Final = 6
_IMPACT: Final = {"title": "Grants", "description": "Schools receive grants for new roofs. " * 5, "amount_usd": 12e6}
_STRUCTURED: Final = json.dumps({"summary": "The bill funds schools. " * 5, "impacts": [_IMPACT] * IMPACTS})

_LENGTH: Final = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)
_ABOUT: Final = {"id": "chatcmpl-1", "created": 1_795_000_000, "model": "gpt-6-luna", "system_fingerprint": "fp"}
_USAGE: Final = {
    "prompt_tokens": 120,
    "completion_tokens": 600,
    "total_tokens": 720,
    "prompt_tokens_details": {"cached_tokens": 20, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}


def _whole(message: dict[str, object], finish_reason: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "logprobs": None, "finish_reason": finish_reason}
    body = json.dumps({**_ABOUT, "object": "chat.completion", "choices": [choice], "usage": _USAGE}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _tool_call(tool: str) -> bytes:
    call = {"id": "call_1", "type": "function", "function": {"name": tool, "arguments": _STRUCTURED}}
    return _whole({"content": None, "tool_calls": [call]}, "tool_calls")


def _pieces() -> list[bytes]:
    def event(data: bytes) -> bytes:
        line = b"data: %b\n\n" % data
        return b"%x\r\n%b\r\n" % (len(line), line)

    def chunk(choices: list[object], **more: object) -> bytes:
        return event(json.dumps({**_ABOUT, "object": "chat.completion.chunk", "choices": choices, **more}).encode())

    def choice(delta: dict[str, str], finish_reason: str | None) -> object:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}

    return [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        *(chunk([choice({"content": word}, None)]) for word in _WORDS),
        chunk([choice({}, "stop")]),
        chunk([], usage=_USAGE),
        event(b"[DONE]") + b"0\r\n\r\n",
    ]


class _Instant(asyncio.Protocol):
    plain = _whole({"content": ANSWER})
    structured = _whole({"content": _STRUCTURED})
    #: instructor's tool is called like its model, pydantic-ai's has a name of its own.
    tool_calls: Final[dict[bytes, bytes]] = {tool.encode(): _tool_call(tool) for tool in ("Analysis", "final_result")}
    pieces = _pieces()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (body := self._next_body()) is not None:
            if b'"stream":true' in body.replace(b" ", b""):
                self._write(iter(self.pieces))
            else:
                self._transport.write(self._answer(body))

    def _answer(self, body: bytes) -> bytes:
        if b'"tools"' in body:
            return next(answer for tool, answer in self.tool_calls.items() if b'"%b"' % tool in body)
        return self.structured if b'"response_format"' in body else self.plain

    def _next_body(self) -> bytes | None:
        head_end = self._received.find(b"\r\n\r\n") + 4
        if head_end < 4:
            return None
        length = _LENGTH.search(self._received, 0, head_end)
        end = head_end + (int(length[1]) if length else 0)
        if len(self._received) < end:
            return None
        body = bytes(self._received[head_end:end])
        del self._received[:end]
        return body

    def _write(self, pieces: Iterator[bytes]) -> None:
        """One piece at a time, as a provider would, without waiting in between."""
        piece = next(pieces, None)
        if piece is not None and not self._transport.is_closing():
            self._transport.write(piece)
            asyncio.get_running_loop().call_soon(self._write, pieces)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Instant, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
