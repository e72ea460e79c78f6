"""The direct wire: OpenAI-compatible endpoints over aiohttp, without an SDK in between."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from math import inf
from types import TracebackType

import aiohttp

from llm_common._runtime.http_session import CONNECT_SECONDS, new_session
from llm_common._runtime.per_loop import PerLoop
from llm_common._runtime.proxies import Proxy, proxy_of
from llm_common.llm.embedding_answers import vectors_in
from llm_common.llm.json_text import json_object
from llm_common.llm.providers.failures import OPENING_FAILURES, READING_FAILURES, failure
from llm_common.llm.providers.json_payload import JsonPayload
from llm_common.llm.providers.responses import chunks_of, is_success, read_any, read_whole, refusal
from llm_common.llm.request_encoding import encoded, encoded_texts, extra_headers
from llm_common.llm.stream_reader import OPENAI, StreamReader, read_answer
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
        self._proxies: dict[str, Proxy | None] = {}

    async def send(self, request: WireRequest, *, timeout: float) -> WireAnswer:
        """Send and wait for the whole answer, at most `timeout` seconds."""
        response = await self._post(request, _CHAT, encoded(request, stream=False), timeout)
        async with response:
            received = await self._whole(request.route, response, timeout)
        return read_answer(OPENAI, request, received, response.headers)

    def stream(self, request: WireRequest, *, timeout: float) -> AbstractAsyncContextManager[AsyncIterator[WireChunk]]:
        """Open a stream that may last `timeout` seconds; leaving the context closes the connection at once."""
        return _Stream(
            lambda: self._post(request, _CHAT, encoded(request, stream=True), timeout),
            lambda response: chunks_of(
                StreamReader(OPENAI, request, response.headers),
                request.route,
                response,
                partial(read_any, response),
                timeout,
            ),
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

    async def _post(
        self, request: WireRequest | EmbeddingRequest, path: str, encoded_body: bytes, timeout: float
    ) -> aiohttp.ClientResponse:
        """The response of a success, its body still to be read. Any other is raised as its typed error."""
        body = JsonPayload(encoded_body)
        try:
            session = self._sessions.get()
            response = await self._request(session, request, path, body, timeout)
        except OPENING_FAILURES as error:
            raise failure(request.route, error, begun=body.begun, timeout=timeout) from error
        if is_success(response.status):
            return response
        received = b""
        async with response:
            with suppress(*READING_FAILURES):  # the status says enough where its body does not arrive
                received = await read_whole(request.route, response.content.readany, self._largest)
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
            proxy=None if (proxy := self._proxy(route.base_url)) is None else proxy.url,
            # Without the threshold aiohttp would round a deadline of more than 5 s up to whole seconds.
            timeout=aiohttp.ClientTimeout(
                total=timeout, sock_connect=min(timeout, CONNECT_SECONDS), ceil_threshold=inf
            ),
        )

    async def _whole(
        self, route: Route, response: aiohttp.ClientResponse, timeout: float, *, largest: int = 0
    ) -> bytes:
        try:
            return await read_whole(route, response.content.readany, max(largest, self._largest))
        except READING_FAILURES as error:
            raise failure(route, error, begun=True, timeout=timeout) from error

    def _proxy(self, base_url: str) -> Proxy | None:
        if base_url not in self._proxies:
            self._proxies[base_url] = proxy_of(base_url)
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
