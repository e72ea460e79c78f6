"""JSON as providers write it: with a byte order mark, in another encoding, or with half a character in it. Pure."""

import json
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Any, cast

from pydantic_core import from_json

from llm_common.exceptions import InvalidAnswerError
from llm_common.llm.wire import Route

__all__ = ["HalfCharacters", "json_object", "parsed", "unreadable", "whole_characters", "with_halves"]

Json = Mapping[str, Any]

_RAW_TEXT_KEPT = 100_000
_HIGH_HALVES = ("\ud800", "\udbff")


def json_object(route: Route, body: bytes | str) -> Json:
    """A body as a JSON object. Anything else (HTML, cut text, a bare list) is an `InvalidAnswerError`."""
    try:
        return parsed(route, body)
    except ValueError:
        return cast("Json", _mended(with_halves(route, body)))


def parsed(route: Route, body: bytes | str) -> Json:
    """The same for JSON as it should be, in 40 % of the time of json.loads. Raises `ValueError` for what is odd."""
    return _object(route, from_json(body), body)


def with_halves(route: Route, body: bytes | str) -> Json:
    """The same for what strict readers refuse. Halves of a character that UTF-16 cut in two are still in its texts."""
    try:
        text = _text(body) if isinstance(body, bytes) else body
        value: object = json.loads(text.removeprefix("\ufeff"), strict=False)
    except (ValueError, RecursionError) as error:
        raise unreadable(route, "is not JSON, or was cut short", body) from error
    return _object(route, value, body)


def _object(route: Route, value: object, body: bytes | str) -> Json:
    if not isinstance(value, dict):
        raise unreadable(route, f"is a JSON {type(value).__name__} instead of an object", body)
    return cast("Json", value)


def _text(body: bytes) -> str:
    encoding = json.detect_encoding(body.removeprefix(BOM_UTF8))
    return body.decode(encoding, "replace")


def _mended(value: object) -> object:
    """The value with whole characters only."""
    if isinstance(value, str):
        return _whole(value)
    if isinstance(value, dict):
        return {_whole(name): _mended(part) for name, part in cast("dict[str, object]", value).items()}
    return list(map(_mended, cast("list[object]", value))) if isinstance(value, list) else value


def _whole(text: str) -> str:
    """The text with its halves joined, and those that stand alone replaced by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def whole_characters(document: str) -> str:
    """A JSON document whose texts have no half character in them; what is no JSON stays as it is."""
    try:
        return json.dumps(_mended(json.loads(document)))
    except (ValueError, RecursionError):
        return document


class HalfCharacters:
    """Joins the halves of characters that were cut in two by the pieces of a stream."""

    def __init__(self) -> None:
        self._held: dict[object, str] = {}

    def joined(self, channel: object, piece: str, *, is_last: bool) -> str:
        """The piece of one text with whole characters only; half a one at its end waits for the next piece."""
        text = self._held.pop(channel, "") + piece
        if text and not is_last and _HIGH_HALVES[0] <= text[-1] <= _HIGH_HALVES[1]:
            self._held[channel], text = text[-1], text[:-1]
        return _whole(text)

    def rest(self) -> dict[object, str]:
        """What still waited when the stream ended, by channel."""
        return {channel: _whole(half) for channel, half in self._held.items()}


def unreadable(route: Route, problem: str, body: bytes | str) -> InvalidAnswerError:
    """The error for an answer that `problem`."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    return InvalidAnswerError(
        f"the answer of {route.provider} for {route.name} {problem} ({len(body)} characters; see raw_text). "
        "Check the base URL, or try again.",
        provider=route.provider,
        model=route.name,
        status=200,
        maybe_billed=True,
        raw_text=text[:_RAW_TEXT_KEPT],
    )
