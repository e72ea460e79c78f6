"""The LiteLLM wire: Anthropic, and every other provider that LiteLLM knows."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import isasyncgenfunction
from typing import Any, Self, cast

from aiohttp import ClientResponse

from llm_common.exceptions import ConfigurationError, DeadlineExceededError, LLMError
from llm_common.llm.embedding_answers import vectors_in
from llm_common.llm.provider_tools import bounded_tools
from llm_common.llm.providers.failures import READING_FAILURES, failure
from llm_common.llm.providers.litellm_call import call_litellm, has_listeners, load_litellm
from llm_common.llm.providers.litellm_json_tool import chunks_without_json_tool, without_json_tool
from llm_common.llm.providers.litellm_session import LentSessions
from llm_common.llm.providers.litellm_traffic import Exchange
from llm_common.llm.providers.responses import Read, chunks_of, read_any, read_whole
from llm_common.llm.request_encoding import stream_options
from llm_common.llm.response_parsing import answer_in, chunk_in
from llm_common.llm.stream_reader import StreamReader, cut_short, read_answer
from llm_common.llm.wire import EmbeddingRequest, WireAnswer, WireChunk, WireRequest, WireVectors

__all__ = ["LiteLLMWire"]

_LITELLM_TIMEOUT = 86_400.0
_LARGEST_ANSWER = 64 * 1024 * 1024
#: What LiteLLM holds back although it belongs there: z.ai's JSON mode, and the zero of the SDK that it uses for z.ai.
_TAKEN_ALL_THE_SAME: Mapping[str, tuple[str, ...]] = {"zai": ("max_retries", "response_format")}


class LiteLLMWire:
    """Sends through `litellm.acompletion` and `litellm.aembedding`, over a session of ours.

    No retries, no redirects, our deadline. LiteLLM is imported by the first call, in a thread. Parameters that a model
    does not support are an error (`BadRequestError`), not dropped. LiteLLM makes the request; what comes back in
    OpenAI's or Anthropic's format is read here, as on the direct wire, unless the host listens to LiteLLM's answers.
    """

    def __init__(self, *, connections: int = 1000) -> None:
        self._sessions = LentSessions(connections=connections)

    async def send(self, request: WireRequest, *, timeout: float) -> WireAnswer:
        """Send and wait for the whole answer, at most `timeout` seconds."""
        exchange, deadline = Exchange(request, timeout), _Deadline(timeout)
        response = await self._call(request, exchange, deadline, stream=False)
        if (taken := exchange.taken) is None:
            return answer_in(request, _payload(request, exchange, response.model_dump()), {})
        async with taken.response:
            try:
                body = await read_whole(request.route, deadline.reads(taken.response), _LARGEST_ANSWER)
            except READING_FAILURES as error:
                raise failure(request.route, error, begun=True, timeout=timeout) from error
        return without_json_tool(request, read_answer(taken.written, request, body, taken.response.headers))

    def stream(self, request: WireRequest, *, timeout: float) -> AbstractAsyncContextManager[AsyncIterator[WireChunk]]:
        """Open a stream that may last `timeout` seconds; leaving the context closes the connection at once."""
        return self._stream(request, timeout)

    async def embed(self, request: EmbeddingRequest, *, timeout: float) -> WireVectors:
        """Send and wait for all the vectors, at most `timeout` seconds."""
        exchange = Exchange(request, timeout)
        lent = self._sessions.embedding_arguments
        response = await self._reach(
            request, exchange, _Deadline(timeout), "aembedding", _embedding_arguments(request), lent
        )
        return vectors_in(request, _payload(request, exchange, response.model_dump()), {})

    async def aclose(self) -> None:
        """Close the running loop's connections. Other loops close theirs when they end."""
        await self._sessions.aclose()

    @asynccontextmanager
    async def _stream(self, request: WireRequest, timeout: float) -> AsyncGenerator[AsyncIterator[WireChunk]]:
        exchange, deadline = Exchange(request, timeout), _Deadline(timeout)
        wrapper = await self._call(request, exchange, deadline, stream=True)
        if (taken := exchange.taken) is not None:
            wrapper = None
            reader = StreamReader(taken.written, request, taken.response.headers)
            read = deadline.reads(taken.response)
            chunks = chunks_without_json_tool(request, chunks_of(reader, request.route, taken.response, read, timeout))
        else:
            wrapper.completion_stream = _continued(wrapper.completion_stream)
            chunks = self._chunks(request, exchange, deadline, wrapper)
        try:
            yield chunks
        finally:
            exchange.close()
            await chunks.aclose()
            if wrapper is not None:
                await wrapper.aclose()

    async def _chunks(
        self, request: WireRequest, exchange: Exchange, deadline: "_Deadline", wrapper: Any
    ) -> AsyncGenerator[WireChunk]:
        while True:
            chunk = await _guarded(request, exchange, deadline, anext(wrapper, None))
            if chunk is None:
                break
            # At the end of a stream without a finish reason LiteLLM makes one up.
            if wrapper.received_finish_reason is None and chunk.choices and chunk.choices[0].finish_reason:
                break
            payload = _payload(request, exchange, chunk.model_dump(exclude_none=True))
            if not any(getattr(received, "usage", None) for received in wrapper.chunks):
                payload.pop("usage", None)  # LiteLLM's own count
            yield chunk_in(request, payload, {})
        if wrapper.received_finish_reason is None:
            raise cut_short(request.route)

    async def _call(self, request: WireRequest, exchange: Exchange, deadline: "_Deadline", *, stream: bool) -> Any:
        arguments, lent = _arguments(request, stream=stream), self._sessions.arguments
        return await self._reach(request, exchange, deadline, "acompletion", arguments, lent)

    async def _reach(
        self,
        request: WireRequest | EmbeddingRequest,
        exchange: Exchange,
        deadline: "_Deadline",
        function: str,
        arguments: dict[str, Any],
        lent: Callable[[str], Awaitable[dict[str, Any]]],
    ) -> Any:
        if deadline.seconds <= 0:
            raise failure(request.route, TimeoutError(), begun=False, timeout=deadline.seconds)
        litellm = await _loaded(request, deadline)
        arguments = (
            arguments
            | await lent(request.route.provider)
            | {
                # Our own deadline is shorter. LiteLLM makes and caches a client for each value that it is given here.
                "timeout": _LITELLM_TIMEOUT,
                "num_retries": 0,
                "max_retries": 0,
                "drop_params": False,
            }
        )
        exchange.may_take = not has_listeners(litellm, function, arguments)
        return await _guarded(request, exchange, deadline, call_litellm(litellm, function, arguments))


async def _loaded(request: WireRequest | EmbeddingRequest, deadline: "_Deadline") -> Any:
    try:
        async with asyncio.timeout_at(deadline.moment):
            return await load_litellm()
    except TimeoutError as error:
        route = request.route
        raise DeadlineExceededError(
            f"the call's {deadline.seconds:g} s were over before LiteLLM, through which {route.provider} is reached, "
            "was imported; that takes seconds, once per process. Allow more time, or ask again. Nothing was sent.",
            provider=route.provider,
            model=route.name,
        ) from error


def _continued(stream: object) -> object:
    """The stream inside LiteLLM's wrapper, so that the wrapper does not begin it anew for each chunk.

    OpenAI's SDK makes an async generator for whoever begins. Each would be left after one chunk, and closed by the
    event loop in a task of its own: a fifteenth of the stream's CPU.
    """
    kind = type(stream)
    if isasyncgenfunction(getattr(kind, "__aiter__", None)) and hasattr(kind, "__anext__"):
        return _Continued(stream)
    return stream


class _Continued:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Any]:
        return self._stream.__anext__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.moment = asyncio.get_running_loop().time() + seconds

    def reads(self, response: ClientResponse) -> Read:
        """Reads from a response up to this moment."""

        async def read() -> bytes:
            async with asyncio.timeout_at(self.moment):
                return await read_any(response)

        return read


async def _guarded(
    request: WireRequest | EmbeddingRequest, exchange: Exchange, deadline: _Deadline, awaitable: Any
) -> Any:
    """Await a step of LiteLLM within the deadline; whatever it raises leaves here as a typed error."""
    try:
        async with asyncio.timeout_at(deadline.moment) as patience:
            with exchange.watched(patience):
                return await awaitable
    except Exception as error:  # noqa: BLE001 (the one door: LiteLLM raises what its providers' SDKs raise)
        if exchange.taken is not None:
            return None
        told = exchange.failure or _typed(request, exchange, deadline, error)
    # Outside the handler, so that LiteLLM's exception, which may quote keys and prompts, is not printed along.
    raise told


def _typed(
    request: WireRequest | EmbeddingRequest, exchange: Exchange, deadline: _Deadline, error: Exception
) -> LLMError | ConfigurationError:
    if isinstance(error, TimeoutError):
        return failure(request.route, error, begun=exchange.begun, timeout=deadline.seconds)
    from llm_common.llm.providers.litellm_failures import is_local, litellm_failure, unsent

    if not exchange.begun and is_local(error):
        return unsent(request, error)
    return litellm_failure(request, error, begun=exchange.begun, answered=exchange.answered, timeout=deadline.seconds)


def _arguments(request: WireRequest, *, stream: bool) -> dict[str, Any]:
    route = request.route
    arguments: dict[str, Any] = dict(request.extra)
    arguments |= {
        "model": f"{route.provider}/{route.name}",
        "messages": [_plain(message) for message in request.messages],
        "api_key": route.api_key,
        "api_base": route.base_url,
        "stream": stream,
    }
    optional: dict[str, Any] = {
        "temperature": request.temperature,
        "max_completion_tokens"
        if "max_completion_tokens" in arguments
        else request.dialect.max_tokens: request.max_tokens,
        "tools": _plain(bounded_tools(request.tools)) or None,
        "tool_choice": _plain(request.tool_choice),
        "response_format": _plain(request.response_format),
    }
    arguments |= {name: value for name, value in optional.items() if value is not None}
    arguments.pop("stream_options", None)
    if stream:
        arguments |= stream_options(request)
    if route.provider == "openrouter":
        arguments["usage"] = {"include": True}
    if taken := _TAKEN_ALL_THE_SAME.get(route.provider):
        arguments["allowed_openai_params"] = [*arguments.get("allowed_openai_params", ()), *taken]
    return arguments


def _embedding_arguments(request: EmbeddingRequest) -> dict[str, Any]:
    route = request.route
    arguments: dict[str, Any] = dict(request.extra)
    arguments |= {
        "model": f"{route.provider}/{route.name}",
        "input": list(request.texts),
        "api_key": route.api_key,
        "api_base": route.base_url,
    }
    return arguments if request.dimensions is None else arguments | {"dimensions": request.dimensions}


def _plain(value: Any) -> Any:
    """Own dicts and lists: LiteLLM changes what it is given."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in cast("list[Any]", value)]
    return value


def _payload(request: WireRequest | EmbeddingRequest, exchange: Exchange, payload: dict[str, Any]) -> dict[str, Any]:
    """What the provider said, without what LiteLLM puts in: its estimate of the price, its prefix, its own ids."""
    usage, model, provider = payload.get("usage"), payload.get("model"), request.route.provider
    if isinstance(usage, dict) and provider != "openrouter":
        cast("dict[str, Any]", usage).pop("cost", None)
    if isinstance(model, str):
        payload["model"] = model.removeprefix(f"{provider}/")
    if exchange.request_id is not None:
        payload["id"] = exchange.request_id
    return payload
