"""What both wires do with a response of aiohttp."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlsplit

import aiohttp

from llm_common.exceptions import BadRequestError, LLMError
from llm_common.llm.error_mapping import classify
from llm_common.llm.providers.failures import READING_FAILURES, failure
from llm_common.llm.request_encoding import prompt_text
from llm_common.llm.stream_reader import StreamReader, too_large
from llm_common.llm.wire import EmbeddingRequest, Route, WireChunk, WireRequest

__all__ = ["Read", "chunks_of", "is_success", "read_any", "read_whole", "refusal"]

#: Gives the next bytes of a body; none at its end.
Read = Callable[[], Awaitable[bytes]]

#: How long a server may hold a connection open after finish reason and usage: [DONE] comes at once, or never.
_AFTER_LAST_SECONDS = 1.0
#: After [DONE] a response ends at once; a connection that takes longer is not worth keeping.
_END_SECONDS = 0.25


async def read_any(response: aiohttp.ClientResponse) -> bytes:
    """The bytes that have arrived, at least one; none at the end. Raises what aiohttp raises, but only behind them."""
    content = response.content
    try:
        return await content.readany()
    except READING_FAILURES:
        # What came before the connection broke is in its buffer still, and only the private method gives it out.
        if arrived := content._read_nowait(-1):  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            return arrived
        raise


def is_success(status: int) -> bool:
    """Whether a response with this status has an answer in it."""
    return 200 <= status < 300  # noqa: PLR2004 (HTTP success)


async def read_whole(route: Route, read: Read, largest: int) -> bytes:
    """The body. Raises `InvalidAnswerError` beyond `largest` bytes, and whatever `read` raises."""
    pieces: list[bytes] = []
    size = 0
    while piece := await read():
        size += len(piece)
        if size > largest:
            raise too_large(route, "an answer")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def chunks_of(
    reader: StreamReader, route: Route, response: aiohttp.ClientResponse, read: Read, timeout: float
) -> AsyncGenerator[WireChunk]:
    """What `reader` makes of a body. Raises its errors, and those of `read` as typed ones."""
    try:
        while not reader.done and (received := await _next(reader, read)):
            for chunk in reader.feed(received):
                yield chunk
    except READING_FAILURES as error:
        # After the finish reason nothing of the answer can be missing.
        if not reader.finished:
            raise failure(route, error, begun=True, timeout=timeout) from error
    for chunk in reader.end():
        yield chunk
    if reader.done and not response.content.at_eof():
        await _reach_end(read)


async def _reach_end(read: Read) -> None:
    """Read up to the end of the response, so that its connection can be used again."""
    with suppress(*READING_FAILURES):
        async with asyncio.timeout(_END_SECONDS):
            while await read():
                pass


async def _next(reader: StreamReader, read: Read) -> bytes:
    if not reader.counted:
        return await read()
    async with asyncio.timeout(_AFTER_LAST_SECONDS):
        return await read()


def refusal(request: WireRequest | EmbeddingRequest, response: aiohttp.ClientResponse, received: bytes) -> LLMError:
    """The typed error for a status that is no success."""
    route = request.route
    if 300 <= response.status < 400:  # noqa: PLR2004 (redirects)
        target = response.headers.get("Location", "")
        return BadRequestError(
            f"{route.provider} redirects to {urlsplit(target).hostname or 'another path of the same host'} "
            f"(HTTP {response.status}), and keys are not sent on. Use the final address as base URL.",
            provider=route.provider,
            model=route.name,
            status=response.status,
        )
    return classify(
        route.provider,
        response.status,
        response.headers,
        received,
        model=route.name,
        api_key=route.api_key,
        sent=prompt_text(request),
    )
