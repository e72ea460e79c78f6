"""The direct wire: OpenAI-compatible endpoints over aiohttp, without an SDK in between."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from math import inf
from types import TracebackType
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from llm_common._runtime.http_session import CONNECT_SECONDS, new_session
from llm_common._runtime.per_loop import PerLoop
from llm_common.llm.embedding_answers import vectors_in
from llm_common.llm.providers.failures import OPENING_FAILURES, READING_FAILURES, cut_short, failure, too_large
from llm_common.llm.providers.json_payload import JsonPayload
from llm_common.llm.providers.responses import OK, read_whole, refusal
from llm_common.llm.request_encoding import encoded, encoded_texts, extra_headers
from llm_common.llm.response_parsing import answer_in, as_chunk, chunk_in, json_object
from llm_common.llm.sse import EventReader, EventTooLargeError
from llm_common.llm.wire import EmbeddingRequest, Route, WireAnswer, WireChunk, WireRequest, WireVectors

__all__ = ["DirectWire"]

#: An answer with several images in it stays well below; more is not an answer.
_LARGEST_ANSWER = 64 * 1024 * 1024
#: 2,048 vectors of 3,072 numbers, from a server that writes each out in decimal.
_LARGEST_VECTORS = 192 * 1024 * 1024
#: Bodies from this size on are read in a thread, so that the event loop goes on.
_LONG_READ = 1024 * 1024
_CHAT = "/chat/completions"
_EMBEDDINGS = "/embeddings"
#: What a server sends that does not stream after all; any other content type is read as events.
_WHOLE_BODIES = frozenset({"application/json", "text/html"})
#: After [DONE] a response ends at once; a connection that takes longer is not worth keeping.
_END_SECONDS = 0.25


class DirectWire:
    """Sends to `{base_url}/chat/completions` and `{base_url}/embeddings` with the route's own key.

    Nothing goes to any other host: a redirect is an error.

    One keep-alive pool per event loop with at most `connections` connections; calls beyond them wait for one within
    their deadline. Proxies come from the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`), read once per base
    URL; `.netrc` and cookies are not used.
    """

    def __init__(self, *, connections: int = 1000, largest_answer: int = _LARGEST_ANSWER) -> None:
        self._sessions = PerLoop(partial(new_session, connections), aiohttp.ClientSession.close)
        self._largest = largest_answer
        self._proxies: dict[str, str | None] = {}

    async def send(self, request: WireRequest, *, timeout: float) -> WireAnswer:
        """Send and wait for the whole answer, at most `timeout` seconds."""
        response = await self._post(request, _CHAT, encoded(request, stream=False), timeout)
        async with response:
            received = await self._whole(request.route, response, timeout)
        return answer_in(request, json_object(request.route, received), response.headers)

    def stream(self, request: WireRequest, *, timeout: float) -> AbstractAsyncContextManager[AsyncIterator[WireChunk]]:
        """Open a stream that may last `timeout` seconds; leaving the context closes the connection at once."""
        return _Stream(
            lambda: self._post(request, _CHAT, encoded(request, stream=True), timeout),
            lambda response: self._chunks(request, response, timeout),
        )

    async def embed(self, request: EmbeddingRequest, *, timeout: float) -> WireVectors:
        """Send and wait for all the vectors, at most `timeout` seconds."""
        response = await self._post(request, _EMBEDDINGS, encoded_texts(request), timeout)
        async with response:
            received = await self._whole(request.route, response, timeout, largest=_LARGEST_VECTORS)

        def read() -> WireVectors:
            return vectors_in(request, json_object(request.route, received), response.headers)

        return await asyncio.to_thread(read) if len(received) >= _LONG_READ else read()

    async def aclose(self) -> None:
        """Close the running loop's connections. Other loops close theirs when they end."""
        await self._sessions.aclose()

    async def _chunks(
        self, request: WireRequest, response: aiohttp.ClientResponse, timeout: float
    ) -> AsyncGenerator[WireChunk]:
        if response.content_type in _WHOLE_BODIES:
            received = await self._whole(request.route, response, timeout)
            yield as_chunk(answer_in(request, json_object(request.route, received), response.headers))
            return
        reader = _ChunkReader(request, response)
        try:
            while not reader.done and (received := await response.content.readany()):
                for chunk in reader.feed(received):
                    yield chunk
        except READING_FAILURES as error:
            # After the finish reason nothing of the answer can be missing.
            if not reader.finished:
                raise failure(request.route, error, begun=True, timeout=timeout) from error
        for chunk in reader.end():
            yield chunk
        if reader.done:
            await _reach_end(response)

    async def _post(
        self, request: WireRequest | EmbeddingRequest, path: str, encoded_body: bytes, timeout: float
    ) -> aiohttp.ClientResponse:
        """The response with status 200, its body still to be read. Any other is raised as its typed error."""
        body = JsonPayload(encoded_body)
        try:
            session = self._sessions.get()
            response = await self._request(session, request, path, body, timeout)
        except OPENING_FAILURES as error:
            raise failure(request.route, error, begun=body.begun, timeout=timeout) from error
        if response.status == OK:
            return response
        received = b""
        async with response:
            with suppress(*READING_FAILURES):  # the status says enough where its body does not arrive
                received = await read_whole(request.route, response, self._largest)
        raise refusal(request, response, received)

    def _request(
        self,
        session: aiohttp.ClientSession,
        request: WireRequest | EmbeddingRequest,
        path: str,
        body: JsonPayload,
        timeout: float,
    ) -> Awaitable[aiohttp.ClientResponse]:
        route = request.route
        if timeout <= 0:  # aiohttp would take it for "no limit"
            raise TimeoutError
        if not route.base_url:
            raise aiohttp.InvalidURL("", "no base URL")
        headers = dict(extra_headers(request))
        if route.api_key is not None:
            if not route.api_key.isprintable():  # before a connection is opened for it
                raise ValueError("the key has a line break or another control character in it")
            headers["Authorization"] = f"Bearer {route.api_key}"
        return session.post(
            f"{route.base_url}{path}",
            data=body,
            headers=headers,
            allow_redirects=False,
            proxy=self._proxy(route.base_url),
            # Without the threshold aiohttp would round a deadline of more than 5 s up to whole seconds.
            timeout=aiohttp.ClientTimeout(
                total=timeout, sock_connect=min(timeout, CONNECT_SECONDS), ceil_threshold=inf
            ),
        )

    async def _whole(
        self, route: Route, response: aiohttp.ClientResponse, timeout: float, *, largest: int = 0
    ) -> bytes:
        try:
            return await read_whole(route, response, max(largest, self._largest))
        except READING_FAILURES as error:
            raise failure(route, error, begun=True, timeout=timeout) from error

    def _proxy(self, base_url: str) -> str | None:
        if base_url not in self._proxies:
            parts = urlsplit(base_url)
            bypassed = proxy_bypass(parts.hostname or "")
            self._proxies[base_url] = None if bypassed else getproxies().get(parts.scheme)
        return self._proxies[base_url]


class _Stream:
    """The chunks of one response, closed with it. A context made of a generator costs more than all that it does."""

    def __init__(
        self,
        send: Callable[[], Awaitable[aiohttp.ClientResponse]],
        read: Callable[[aiohttp.ClientResponse], AsyncGenerator[WireChunk]],
    ) -> None:
        self._send = send
        self._read = read

    async def __aenter__(self) -> AsyncIterator[WireChunk]:
        self._response = await self._send()
        self._chunks = self._read(self._response)
        return self._chunks

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Closed, not released: a provider that is still writing stops when the connection is gone. After a complete
        # stream the connection is back in the pool already, and this does nothing.
        self._response.close()
        await self._chunks.aclose()


class _ChunkReader:
    """Bytes of one stream to chunks. `finished`: the model has said why it stopped; `done`: [DONE] has come."""

    def __init__(self, request: WireRequest, response: aiohttp.ClientResponse) -> None:
        self._request = request
        self._headers = response.headers
        self._events = EventReader()
        self.finished = False
        self.done = False

    def feed(self, received: bytes) -> Iterator[WireChunk]:
        try:
            events = self._events.feed(received)
        except EventTooLargeError:
            raise too_large(self._request.route, "an event") from None
        return self._chunks(events)

    def end(self) -> Iterator[WireChunk]:
        """The last chunk, where its event was not closed. Raises where the stream was cut."""
        yield from self._chunks(self._events.end())
        if not (self.finished or self.done):
            raise cut_short(self._request.route)

    def _chunks(self, events: list[bytes]) -> Iterator[WireChunk]:
        for data in events:
            if data == b"[DONE]":
                self.done = True
                return
            if data:
                chunk = chunk_in(self._request, json_object(self._request.route, data), self._headers)
                self.finished = self.finished or chunk.finish_reason is not None
                yield chunk


async def _reach_end(response: aiohttp.ClientResponse) -> None:
    """Read up to the end of the response, so that its connection can be used again."""
    if response.content.at_eof():
        return
    with suppress(*READING_FAILURES):
        async with asyncio.timeout(_END_SECONDS):
            while await response.content.readany():
                pass
