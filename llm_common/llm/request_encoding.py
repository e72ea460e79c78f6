"""A `WireRequest` as the JSON body that OpenAI-compatible servers read. Pure."""

from collections.abc import Mapping
from typing import Any, cast

from pydantic_core import PydanticSerializationError, to_json

from llm_common.exceptions import BadRequestError
from llm_common.llm.dialect import is_openai
from llm_common.llm.provider_tools import bounded_tools
from llm_common.llm.wire import EmbeddingRequest, WireRequest

__all__ = ["encoded", "encoded_texts", "extra_headers", "prompt_text", "stream_options"]

_MARKER = "cache_control"
_NOT_FOR_THE_BODY = frozenset({"extra_headers", "extra_body"})


def encoded(request: WireRequest, *, stream: bool) -> bytes:
    """The body of `POST /chat/completions`. Usage is always asked for.

    `extra` is merged in as it is (and `extra["extra_body"]` too, the OpenAI SDK's spelling), but cannot replace what
    the request says itself. Raises `BadRequestError` for what JSON cannot carry; nothing was sent then.
    """
    return _json(request, _body(request, stream=stream))


def encoded_texts(request: EmbeddingRequest) -> bytes:
    """The body of `POST /embeddings`. Raises like `encoded`.

    Vectors are asked for packed, a quarter of the size and of the time to read: the OpenAI SDK asks everybody so, and
    servers that cannot pack send lists of numbers all the same.
    """
    body = {"encoding_format": "base64", **_extra(request)} if request.route.provider != "zai" else _extra(request)
    body |= {"model": request.route.name, "input": request.texts}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return _json(request, body)


def _json(request: WireRequest | EmbeddingRequest, body: Mapping[str, Any]) -> bytes:
    try:
        return to_json(body, by_alias=True, exclude_none=False, fallback=_plain)
    except (PydanticSerializationError, ValueError, TypeError) as error:
        raise BadRequestError(
            f"the request for {request.route.name} holds a value that JSON cannot carry ({type(error).__name__}); "
            "use text, numbers, lists and dicts. Nothing was sent.",
            provider=request.route.provider,
            model=request.route.name,
        ) from None


def extra_headers(request: WireRequest | EmbeddingRequest) -> Mapping[str, str]:
    """Headers that the caller adds with `extra_headers={...}`, as the OpenAI SDK spells it."""
    headers: object = request.extra.get("extra_headers") or {}
    return cast("Mapping[str, str]", headers) if isinstance(headers, (dict, Mapping)) else {}


def stream_options(request: WireRequest) -> Mapping[str, Any]:
    """What asks for usage at the end of a stream; nothing where the caller says None, or the server knows it not."""
    asked: object = _extra(request).get("stream_options", {})
    if not isinstance(asked, Mapping) or not (asked or request.dialect.stream_options):
        return {}
    return {"stream_options": {"include_usage": True, **cast("Mapping[str, Any]", asked)}}


def prompt_text(request: WireRequest | EmbeddingRequest) -> str:
    """The text of the prompt, for keeping its echo out of error messages."""
    said = request.texts if isinstance(request, EmbeddingRequest) else request.messages
    return "\n".join(_texts(said))


def _body(request: WireRequest, *, stream: bool) -> dict[str, Any]:
    route, body = request.route, _extra(request)
    body["model"] = route.name
    own = is_openai(route.base_url)
    body["messages"] = _without_markers(request.messages) if own else request.messages
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_completion_tokens" if "max_completion_tokens" in body else request.dialect.max_tokens] = (
            request.max_tokens
        )
    if request.tools:
        tools = bounded_tools(request.tools)
        body["tools"] = _without_markers(tools) if own else tools
    if request.tool_choice is not None:
        body["tool_choice"] = request.tool_choice
    if request.response_format is not None:
        body["response_format"] = request.response_format
    # Which of the two it is decides how the answer is read, so it is not the caller's to say.
    body["stream"] = stream
    body.pop("stream_options", None)
    if stream:
        body |= stream_options(request)
    if route.provider == "openrouter":
        body["usage"] = {"include": True}
    return body


def _without_markers(messages: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
    """Without Anthropic's prompt-cache markers, which OpenAI knows nothing of: a chain may ask both."""
    return tuple(map(_without_marker, messages))


def _without_marker(message: Mapping[str, Any]) -> Mapping[str, Any]:
    if _MARKER in message:
        message = {name: value for name, value in message.items() if name != _MARKER}
    content: object = message.get("content")
    if isinstance(content, list):
        parts = cast("list[object]", content)
        if any(isinstance(part, Mapping) and _MARKER in part for part in parts):
            plain = [_without_marker(cast("Mapping[str, Any]", p)) if isinstance(p, Mapping) else p for p in parts]
            return {**message, "content": plain}
    return message


def _extra(request: WireRequest | EmbeddingRequest) -> dict[str, Any]:
    if not request.extra:
        return {}
    body = {name: value for name, value in request.extra.items() if name not in _NOT_FOR_THE_BODY}
    more: object = request.extra.get("extra_body")
    return {**body, **cast("Mapping[str, Any]", more)} if isinstance(more, Mapping) else body


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    raise TypeError(type(value).__name__)


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for part in cast("Mapping[str, object]", value).values() for text in _texts(part)]
    if isinstance(value, list | tuple):
        return [text for part in cast("list[object]", value) for text in _texts(part)]
    return []
