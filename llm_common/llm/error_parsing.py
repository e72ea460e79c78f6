"""Reading the bodies of failed responses: whatever a provider sends becomes one `Condition`. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["Condition", "Json", "condition_of", "error_in", "inner_headers", "json_in", "request_id_in"]

Json = Mapping[str, Any]

_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
#: What a type says where the HTTP status does not: in a 200, or within a stream.
_TYPE_STATUS: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """What a response says went wrong. `text` is all of its wording, for matching only."""

    status: int
    codes: tuple[str, ...]
    message: str
    text: str
    moderated: bool


def error_in(payload: Json) -> Json | None:
    """The error that a 200's body or a stream's event carries (OpenRouter, z.ai, vLLM), None where there is none."""
    if payload.get("error"):
        return payload
    if payload.get("object") == "error" or payload.get("type") == "error" or payload.get("success") is False:
        return payload
    choices = payload.get("choices")
    if isinstance(choices, list) and choices:
        first = cast("list[object]", choices)[0]
        if isinstance(first, (dict, Mapping)) and cast("Json", first).get("error"):
            return cast("Json", first)
    return None


def condition_of(status: int, payload: Json, body: bytes | str | Json) -> Condition:
    levels = list(_levels(payload))
    codes = tuple(dict.fromkeys(code for level in levels for code in _codes(level)))
    messages = [message for level in levels if (message := _message(level))]
    if not messages and not payload and not isinstance(body, Mapping):
        messages = [_plain(body)]
    return Condition(
        status=_effective_status(status, codes),
        codes=codes,
        message=" / ".join(dict.fromkeys(messages)),
        text=" ".join(messages),
        moderated=any("reasons" in level and "flagged_input" in level for level in levels),
    )


def _levels(payload: Json, depth: int = 0) -> Iterator[Json]:
    """The error object, and the upstream's own error that OpenRouter wraps into `metadata.raw`, outermost first."""
    error = payload.get("error")
    inner: Json = cast("Json", error) if isinstance(error, Mapping) else payload
    yield inner
    metadata = inner.get("metadata")
    if not isinstance(metadata, Mapping):
        return
    yield cast("Json", metadata)
    raw = cast("Json", metadata).get("raw")
    nested: Json = cast("Json", raw) if isinstance(raw, Mapping) else json_in(raw) if isinstance(raw, str) else {}
    if nested and depth == 0:
        yield from _levels(nested, depth + 1)


def _codes(level: Json) -> Iterator[str]:
    for name in ("code", "type"):
        value = level.get(name)
        if isinstance(value, int | str) and not isinstance(value, bool) and value not in ("", "error"):
            yield str(value)


def _message(level: Json) -> str:
    for name in ("message", "msg", "detail", "error", "raw"):
        value = level.get(name)
        if isinstance(value, str) and value and not (name == "raw" and json_in(value)):
            return value
    return ""


def _effective_status(status: int, codes: tuple[str, ...]) -> int:
    """OpenRouter puts the HTTP status of an error inside a 200 into `code`; others tell it by the type's name."""
    if status >= 300:  # noqa: PLR2004 (HTTP success)
        return status
    for code in codes:
        if code.isascii() and code.isdigit() and 400 <= int(code[:4]) < 600:  # noqa: PLR2004 (HTTP errors)
            return int(code)
        if code in _TYPE_STATUS:
            return _TYPE_STATUS[code]
    return status


def inner_headers(payload: Json) -> dict[str, str]:
    for level in _levels(payload):
        headers = level.get("headers")
        if isinstance(headers, Mapping):
            return {str(name).lower(): str(value) for name, value in cast("Json", headers).items()}
    return {}


def request_id_in(headers: Mapping[str, str], payload: Json) -> str | None:
    for value in (headers.get("x-request-id"), headers.get("request-id"), payload.get("request_id")):
        if isinstance(value, str) and value:
            return value
    return None


def json_in(body: bytes | str) -> Json:
    """The JSON object in a body; also one behind other words, as SDKs put it into their messages."""
    text = _text(body)
    start = text.find("{")
    if start < 0:
        return {}
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return {}
    return cast("Json", value) if isinstance(value, dict) else {}


def _text(body: bytes | str) -> str:
    return body.decode("utf-8", "replace") if isinstance(body, bytes) else body


def _plain(body: bytes | str) -> str:
    """A body that is not JSON: gateways answer with HTML pages, whose title says it all."""
    text = _text(body)
    title = _TITLE.search(text)
    return title[1] if title else text
