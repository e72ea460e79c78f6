"""The HTTP traffic of one call through LiteLLM, watched at the session that we lend it.

LiteLLM words failures in its own way, loses statuses and headers, sends again after a lost connection, and lets
redirects carry keys to other hosts. It fills in what an answer lacks (a usage of zeros, a count of its own, a finish
reason) and maps the rest. At the session the facts are still whole: there it can be held back, and there an answer in
OpenAI's or Anthropic's format is taken over before LiteLLM reads it.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from llm_common.exceptions import InvalidAnswerError, LLMError
from llm_common.llm.anthropic_parsing import ANTHROPIC
from llm_common.llm.providers.failures import OPENING_FAILURES, READING_FAILURES, failure
from llm_common.llm.providers.responses import is_success, read_whole, refusal
from llm_common.llm.stream_reader import OPENAI, Format
from llm_common.llm.wire import EmbeddingRequest, WireRequest

__all__ = ["Exchange", "Taken", "note_sending", "watch"]

_LARGEST_ERROR = 1024 * 1024
#: What is said at the addresses that end so.
_FORMATS = {"/chat/completions": OPENAI, "/messages": ANTHROPIC}
_current: ContextVar["Exchange | None"] = ContextVar("llm_common_exchange", default=None)


@dataclass(frozen=True, slots=True)
class Taken:
    """A response that we read ourselves, its body still to come."""

    response: ClientResponse
    written: Format


class Exchange:
    """`begun`: a request has gone out; `failure`: why there is no answer, after which nothing is sent any more.

    `may_take`: nobody but us wants to see what LiteLLM makes of the answer. `taken`: then LiteLLM is left at that.

    Some providers need a token from elsewhere first, so requests to several addresses are fine, a second one to the
    same address is not. An SDK that waits before it would send again is not waited for.
    """

    def __init__(self, request: WireRequest | EmbeddingRequest, timeout: float) -> None:
        self._request = request
        self._timeout = timeout
        self.begun = False
        self.may_take = False
        self.failure: LLMError | None = None
        self.taken: Taken | None = None
        self._response: ClientResponse | None = None
        self._patience: asyncio.Timeout | None = None

    @property
    def answered(self) -> bool:
        """Whether a success has begun to arrive."""
        return self._response is not None

    @property
    def request_id(self) -> str | None:
        """Anthropic's own id of the request, which LiteLLM replaces by one that it makes up."""
        return None if self._response is None else self._response.headers.get("request-id")

    @contextmanager
    def watched(self, patience: asyncio.Timeout) -> Generator[None]:
        """While this is entered, requests of the running task belong to this exchange; a failure ends `patience`."""
        token, self._patience = _current.set(self), patience
        try:
            yield
        finally:
            self._patience = None
            _current.reset(token)

    def close(self) -> None:
        """Close the connection at once, where the response has not come to its end."""
        if self._response is not None:
            self._response.close()

    async def perform(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        if self._response is not None and self._response.url == request.url:
            broken = aiohttp.ClientPayloadError("the answer broke off")
            raise self._failed(failure(self._request.route, broken, begun=True, timeout=self._timeout))
        if self.failure is not None:
            raise self.failure
        written = self._format_of(request)
        if written is not None:
            # LiteLLM asks for compressed bodies, which it unpacks after us.
            request.headers["Accept-Encoding"] = "identity"
        try:
            response = await handler(request)
        except OPENING_FAILURES as error:
            told = failure(self._request.route, error, begun=self.begun, timeout=self._timeout)
            raise self._failed(told) from error
        if not is_success(response.status):
            received = await self._read(response)
            raise self._failed(refusal(self._request, response, received))
        self._response = response
        if written is not None and response.headers.get("Content-Encoding", "identity") == "identity":
            self.taken = Taken(response, written)
            self._end_patience()
            await asyncio.Event().wait()  # cancelled at once
        if response.content_type == "text/html":
            raise self._failed(self._web_page(response.status, await self._read(response)))
        return response

    def _format_of(self, request: ClientRequest) -> Format | None:
        if not self.may_take or isinstance(self._request, EmbeddingRequest):
            return None
        return next((written for path, written in _FORMATS.items() if request.url.path.endswith(path)), None)

    def _failed(self, error: LLMError) -> LLMError:
        """Note why there is no answer. LiteLLM has this one turn of the loop to pass it on, then it is cancelled."""
        self.failure = error
        self._end_patience()
        return error

    def _end_patience(self) -> None:
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def _read(self, response: ClientResponse) -> bytes:
        received = b""
        async with response:
            with suppress(*READING_FAILURES, InvalidAnswerError):  # the status says enough without its body
                received = await read_whole(self._request.route, response.content.readany, _LARGEST_ERROR)
        return received

    def _web_page(self, status: int, received: bytes) -> InvalidAnswerError:
        route = self._request.route
        return InvalidAnswerError(
            f"{route.provider} answered for {route.name} with a web page instead of JSON (see raw_text). "
            "Check the base URL, or try again.",
            provider=route.provider,
            model=route.name,
            status=status,
            maybe_billed=True,
            raw_text=received.decode("utf-8", "replace"),
        )


async def watch(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Middleware of the session: each request passes through the exchange that it belongs to."""
    exchange = _current.get()
    return await (handler(request) if exchange is None else exchange.perform(request, handler))


def note_sending() -> aiohttp.TraceConfig:
    """Tells an exchange when the first byte goes out: from then on the provider may bill."""
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_begin)
    return trace


async def _begin(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, _sent: aiohttp.TraceRequestHeadersSentParams
) -> None:
    exchange = _current.get()
    if exchange is not None:
        exchange.begun = True
