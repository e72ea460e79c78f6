"""What every provider checks in a request body, each refusal in one sentence."""

from collections.abc import Collection, Mapping
from typing import Any, cast

from llm_common.testing.errors import Problem, Refusal
from llm_common.testing.wire import Json

__all__ = ["a_count", "a_flag", "a_list", "a_text", "an_object", "is_list_of_objects", "one_of", "refuse_unless"]


def refuse_unless(accepted: object, message: str, *, parameter: str = "") -> None:
    """Refuse the request as invalid where `accepted` is not true."""
    if not accepted:
        raise Refusal(Problem(kind="invalid_request", message=message, subject=parameter))


def a_text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    refuse_unless(value is not None, f"Missing required parameter: '{name}'.", parameter=name)
    refuse_unless(isinstance(value, str), _wrong_type(name, "a string", value), parameter=name)
    refuse_unless(value, f"Invalid '{name}': the string must not be empty.", parameter=name)
    return str(value)


def a_list(body: Mapping[str, Any], name: str, *, required: bool) -> list[Json]:
    """The list of objects under `name`; an absent optional one is empty."""
    value = body.get(name)
    if value is None and not required:
        return []
    refuse_unless(value is not None, f"Missing required parameter: '{name}'.", parameter=name)
    refuse_unless(isinstance(value, list), _wrong_type(name, "an array", value), parameter=name)
    items = cast("list[object]", value)
    refuse_unless(items, f"Invalid '{name}': empty array. Expected at least one element.", parameter=name)
    for index, item in enumerate(items):
        slot = f"{name}[{index}]"
        refuse_unless(isinstance(item, dict), _wrong_type(slot, "an object", item), parameter=slot)
    return cast("list[Json]", items)


def a_count(body: Mapping[str, Any], name: str, *, low: int, high: int | None = None) -> int | None:
    """The whole number under `name`, between `low` and `high`; None where it is absent."""
    value = body.get(name)
    if value is None:
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    refuse_unless(whole, _wrong_type(name, "an integer", value), parameter=name)
    refuse_unless(value >= low, f"Invalid '{name}': {value} is less than {low}.", parameter=name)
    refuse_unless(high is None or value <= high, f"Invalid '{name}': {value} is more than {high}.", parameter=name)
    return int(value)


def a_flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    refuse_unless(value is None or isinstance(value, bool), _wrong_type(name, "a boolean", value), parameter=name)
    return bool(value)


def an_object(body: Mapping[str, Any], name: str) -> Json:
    """The object under `name`; an absent one is empty."""
    value: object = body.get(name)
    wrong = _wrong_type(name, "an object", value)
    refuse_unless(value is None or isinstance(value, dict), wrong, parameter=name)
    return cast("Json", value or {})


def is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in cast("list[object]", value))


def one_of(value: object, allowed: Collection[str], name: str) -> None:
    words = ", ".join(repr(word) for word in sorted(allowed))
    refuse_unless(
        isinstance(value, str) and value in allowed,
        f"Invalid value: {value!r}. Supported values are: {words}.",
        parameter=name,
    )


def _wrong_type(name: str, expected: str, value: object) -> str:
    kinds: dict[type[object], str] = {
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        list: "an array",
        dict: "an object",
        type(None): "null",
    }
    return f"Invalid type for '{name}': expected {expected}, but got {kinds.get(type(value), 'something else')}."
