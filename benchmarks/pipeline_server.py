"""A provider of the pipeline's four kinds of answers, each after a fixed time.

`python -m benchmarks.pipeline_server SECONDS N`: a bill gets N queries, each of them new, one search result for each,
an impact with a true quote, and a good review. Prints its base URL and serves until its standard input closes.
"""

import asyncio
import json
import re
import sys
from itertools import count
from typing import Final, cast

__all__ = ["BILL", "QUOTE"]

QUOTE: Final = "The department shall award grants of $2 million to school districts"
BILL: Final = f"SECTION 1. {QUOTE}.\n\n" + "Each district shall report what it has spent within 30 days. " * 40

_LENGTH: Final = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)
_USAGE: Final = {"prompt_tokens": 900, "completion_tokens": 200, "total_tokens": 1100}
_DRAFT: Final = {
    "insufficient_evidence": False,
    "summary": "The department awards grants of $2 million.",
    "confidence": 0.9,
    "impacts": [
        {
            "title": "Grants",
            "description": "Grants of $2 million go to school districts.",
            "affected": "School districts",
            "amount_usd": 2_000_000.0,
            "confidence": 0.9,
            "citations": [{"source": "BILL", "quote": QUOTE}],
        }
    ],
}
_REVIEW: Final = {"passed": True, "critique": "Fine.", "missing_impacts": [], "factual_errors": []}


class _Provider(asyncio.Protocol):
    seconds: float
    queries: int
    numbers = count()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(self._received, 0, head_end) if head_end >= 4 else None
        if length is None or len(self._received) < head_end + int(length[1]):
            return
        request = bytes(self._received)
        self._received.clear()
        asyncio.get_running_loop().call_later(self.seconds, self._answer, request)

    def _answer(self, request: bytes) -> None:
        if self._transport.is_closing():
            return
        body = json.dumps(self._search() if b"/web_search" in request[:80] else self._chat(request)).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)

    def _search(self) -> dict[str, object]:
        number = next(self.numbers)
        hit = {
            "title": f"Page {number}",
            "link": f"https://example.com/{number}",
            "content": "A sentence about grants for schools. " * 4,
            "media": "",
            "publish_date": "",
        }
        return {"id": "1", "created": 1, "search_result": [hit]}

    def _chat(self, request: bytes) -> dict[str, object]:
        if b"missing_impacts" in request:
            answer: dict[str, object] = _REVIEW
        elif b"impacts" in request:
            answer = _DRAFT
        else:
            answer = {"queries": [f"grants for schools {next(self.numbers)}" for _ in range(self.queries)]}
        message = {"role": "assistant", "content": json.dumps(answer)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        about = {"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-6-luna"}
        return {**about, "choices": [choice], "usage": _USAGE}


async def _serve(seconds: float, queries: int) -> None:
    _Provider.seconds, _Provider.queries = seconds, queries
    server = await asyncio.get_running_loop().create_server(_Provider, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]), int(sys.argv[2])))
