"""What may stand in a profile: its keys, what each takes, and how a value in text is read. Pure."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, cast

from llm_common.exceptions import InvalidInputError

__all__ = ["KEYS", "Key", "checked", "near"]

#: What OpenAI's protocol knows; a model takes some of them.
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
#: These decide how an answer is read, so they are not a profile's to send along.
_NOT_EXTRA = frozenset({"model", "messages", "stream", "stream_options", "response_format"})
_HOTTEST = 2.0


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `accept` gives the value in its own type and raises `ValueError`; `right` says what it takes."""

    right: str
    accept: Callable[[Any], Any]
    from_text: Callable[[str], Any]


def checked(key: str, value: Any) -> Any:
    """The value in its own type. Raises `InvalidInputError` that says what would be right."""
    try:
        return KEYS[key].accept(value)
    except ValueError as error:
        why = f" ({error})" if str(error) else ""
        raise InvalidInputError(f"{key} = {value!r} is not right{why}; give {KEYS[key].right}") from None


def near(word: object, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """` Did you mean ...?` for a mistyped name, or nothing."""
    from difflib import get_close_matches  # only where something was mistyped

    found = get_close_matches(str(word).lower(), list(known), n=1, cutoff=0.6)
    return f" Did you mean {found[0]}?" if found else ""


def _models(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("one model is a list of one" if isinstance(value, str) else "")  # noqa: TRY004
    names = cast("list[object] | tuple[object, ...]", value)
    if not names:
        raise ValueError("it is empty; leave the key out to ask the client's own model")
    chain = tuple(name.strip() for name in names if isinstance(name, str) and name.strip())
    if len(chain) < len(names):
        raise ValueError("one of them is no name")
    if len(set(chain)) < len(chain):
        raise ValueError("a model stands in it twice")
    return chain


def _number(value: Any) -> float:
    # True is an int in Python; TOML and YAML know nan and inf.
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _temperature(value: Any) -> float:
    if not 0 <= _number(value) <= _HOTTEST:
        raise ValueError
    return float(value)


def _seconds(value: Any) -> float:
    if not _number(value) > 0:
        raise ValueError
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError
    return value


def _effort(value: Any) -> str:
    if value not in EFFORTS:
        raise ValueError(near(value, EFFORTS).strip())
    return value


def _extra(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError  # noqa: TRY004 (whatever is wrong with a value is one kind of error here)
    for key in cast("Mapping[str, Any]", value):
        if key in _NOT_EXTRA:
            raise ValueError(f"{key} is the call's own to say")
        if key in KEYS and key != "reasoning_effort":
            raise ValueError(f"{key} stands in the profile itself, not in its extra")
    return {key: _json(key, entry) for key, entry in cast("Mapping[str, Any]", value).items()}


def _json(key: object, value: Any) -> Any:
    if not isinstance(key, str):
        raise ValueError(f"{key!r} is no text")  # noqa: TRY004 (a sentence for the host, not a type to catch)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping):
        return {name: _json(name, entry) for name, entry in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_json(key, entry) for entry in cast("list[Any]", value)]
    raise ValueError(f"{key} holds a {type(value).__name__}, which JSON cannot carry")


def _names_in(text: str) -> list[str]:
    return [name for name in text.split(",") if name.strip()]


def _number_in(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text  # refused with the others, by its own words


def _count_in(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text


def _json_in(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


_SECONDS = Key("seconds, more than 0", _seconds, _number_in)
_COUNT = Key("a whole number, 1 or more", _count, _count_in)

KEYS: Final[Mapping[str, Key]] = MappingProxyType(
    {
        "models": Key('a list of names, such as ["zai/glm-5.3", "openai/gpt-6-luna"]', _models, _names_in),
        "temperature": Key("a number from 0 to 2", _temperature, _number_in),
        "max_tokens": _COUNT,
        "reasoning_effort": Key(f"one of {', '.join(EFFORTS)}", _effort, str),
        "timeout": _SECONDS,
        "first_token_timeout": _SECONDS,
        "stall_timeout": _SECONDS,
        "concurrency": _COUNT,
        "requests_per_minute": _COUNT,
        "tokens_per_minute": _COUNT,
        "extra": Key("a table of what goes to the provider as it is, such as { top_p = 0.9 }", _extra, _json_in),
    }
)
