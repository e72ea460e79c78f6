"""Reading the bodies of failed responses: whatever a provider sends becomes one `Condition`. Pure."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["Condition", "Json", "condition_of", "error_in", "inner_headers", "json_in", "request_id_in"]

Json = Mapping[str, Any]

_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
#: Under which names messages stand, the usual first, and under which others' errors.
_MESSAGES = ("message", "msg", "detail", "error", "errors", "description", "error_msg", "error_message", "raw")
_WRAPPINGS = ("metadata", "raw", "message", "detail", "error", "inner_error", "innererror", "upstream_error", "body")
_DEEPEST = 4
_MOST_PROBLEMS = 5
_FIRST_ERROR, _FIRST_FAILURE, _LAST_STATUS = 400, 500, 600
#: What asks to come again.
_PASSING = frozenset({408, 409, 425, 429})
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
    text = " ".join(messages)
    if not messages and not isinstance(body, Mapping):
        # Nothing in it is known as a message: its beginning says more than nothing.
        messages = [_plain(body)]
        text = "" if payload else messages[0]
    return Condition(
        status=_effective_status(status, levels),
        codes=codes,
        message=" / ".join(dict.fromkeys(messages)),
        text=text,
        moderated=any("reasons" in level and "flagged_input" in level for level in levels),
    )


def _levels(payload: Json, depth: int = 0) -> Iterator[Json]:
    """The error, and the upstream's own error that a gateway wraps into it, outermost first."""
    error = payload.get("error")
    yield cast("Json", error) if isinstance(error, Mapping) else payload
    if depth < _DEEPEST:
        for level in _wrapped(cast("Json", error) if isinstance(error, Mapping) else payload):
            yield from _levels(level, depth + 1)


def _wrapped(level: Json) -> Iterator[Json]:
    """What stands inside of an error: an object, or the text of one."""
    for name in _WRAPPINGS:
        inner = level.get(name)
        if isinstance(inner, Mapping):
            yield cast("Json", inner)
        elif isinstance(inner, str) and inner.lstrip().startswith("{") and (said := json_in(inner)):
            yield said


def _codes(level: Json) -> Iterator[str]:
    for name in ("code", "type"):
        value = level.get(name)
        if isinstance(value, int | str) and not isinstance(value, bool) and value not in ("", "error"):
            yield str(value)


def _message(level: Json) -> str:
    for name in _MESSAGES:
        if said := _words(level.get(name)):
            return said
    return ""


def _words(value: object) -> str:
    """The words of a message: a text, or a list of problems as FastAPI and others send it."""
    if isinstance(value, str):
        # JSON in a text is a level of its own.
        return "" if value.lstrip().startswith("{") and json_in(value) else value
    if isinstance(value, list):
        problems = [_problem(item) for item in cast("list[object]", value)[:_MOST_PROBLEMS]]
        return "; ".join(filter(None, problems))
    return ""


def _problem(item: object) -> str:
    if not isinstance(item, Mapping):
        return item if isinstance(item, str) else ""
    fields = cast("Json", item)
    place: object = fields.get("loc")
    where = ".".join(map(str, cast("list[object]", place))) if isinstance(place, list) else ""
    said = _message(fields)
    return f"{where}: {said}" if where and said else said


def _effective_status(status: int, levels: Sequence[Json]) -> int:
    """The HTTP status, unless what stands inside knows better.

    OpenRouter puts the status of an error inside a 200 into `code`; others tell it by the type's name. Where a gateway
    answers 400 for its upstream, and the upstream was only busy, the upstream's counts.
    """
    if status < _FIRST_ERROR:
        return next((told for level in levels if (told := _status_in(level))), status)
    inner = [told for level in levels[1:] if (told := _status_in(level))]
    passing = [told for told in inner if told in _PASSING or told >= _FIRST_FAILURE]
    return passing[0] if passing and status < _FIRST_FAILURE and status not in _PASSING else status


def _status_in(level: Json) -> int | None:
    for code in (*_codes(level), *(str(level.get(name)) for name in ("status", "status_code", "statusCode"))):
        if code.isascii() and code.isdigit() and _FIRST_ERROR <= int(code[:4]) < _LAST_STATUS:
            return int(code)
        if code in _TYPE_STATUS:
            return _TYPE_STATUS[code]
    return None


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
