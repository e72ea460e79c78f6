"""Conditions on a context: who may be in at all. The operators of Unleash's specification. Pure.

Source: https://docs.getunleash.io/reference/activation-strategies#constraints and Unleash's client-specification. Left
out is REGEX: its syntax is RE2's, and Python's own engine can be made to hang by a pattern.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from llm_common.exceptions import InvalidInputError

__all__ = ["Constraint", "Context"]

#: What is known of the caller: `{"environment": "production", "plan": "pro", "age": 30}`.
Context: TypeAlias = Mapping[str, object]

_SEMVER: Final = re.compile(
    r"(0|[1-9]\d{0,17})\.(0|[1-9]\d{0,17})\.(0|[1-9]\d{0,17})(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?"
)


@dataclass(frozen=True, slots=True)
class Constraint:
    """`field` of the context against `values`; several values of a text operator mean any of them.

    Operators: `IN`, `NOT_IN`; `STR_STARTS_WITH`, `STR_ENDS_WITH`, `STR_CONTAINS`; `NUM_` and `SEMVER_` with `EQ`, `GT`,
    `GTE`, `LT`, `LTE`; `DATE_AFTER`, `DATE_BEFORE` (ISO; `currentTime` is now unless the context says otherwise);
    `IN_CIDR`. A field that is missing or cannot be read fits nothing, so `NOT_IN` and `inverted` hold for it. Raises
    `InvalidInputError` for an operator that is not known and a value that cannot be read.

    >>> Constraint("plan", "IN", ("pro", "team")).holds({"plan": "pro"})
    True
    """

    field: str
    operator: str
    values: Sequence[str]
    case_insensitive: bool = False
    inverted: bool = False

    def __post_init__(self) -> None:
        if self.operator not in _READERS:
            known = ", ".join(_READERS)
            raise InvalidInputError(f"operator {self.operator!r:.60} is unknown; use one of {known}")
        given: Any = self.values
        if isinstance(given, str) or not all(isinstance(value, str) for value in given):
            raise InvalidInputError(f"values of {self.field!r:.60} must be a list of texts, not {given!r:.100}")
        object.__setattr__(self, "values", tuple(given))
        reader = _READERS[self.operator]
        unreadable = [value for value in self.values if reader(value) is None]
        if unreadable or (reader is not _text and not self.values):
            raise InvalidInputError(f"{self.operator} of {self.field!r:.60} cannot read {unreadable[:1]!r:.100}")

    def holds(self, context: Context) -> bool:
        """Whether the context meets it."""
        found = context.get(self.field)
        if found is None and self.field == "currentTime":
            found = datetime.now(UTC).isoformat()
        return self._fits(found) != self.inverted

    def _fits(self, found: object) -> bool:
        if self.operator == "NOT_IN":
            return found is None or str(found) not in self.values
        if found is None:
            return False
        reader, compare = _READERS[self.operator], _COMPARISONS[self.operator]
        value = (_address if self.operator == "IN_CIDR" else reader)(str(found))
        if value is None:
            return False
        wanted = self.values
        if self.case_insensitive and reader is _text:
            value, wanted = value.casefold(), [one.casefold() for one in wanted]
        return any(compare(value, reader(one)) for one in wanted)


def _text(text: str) -> str:
    return text


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number - number == 0 else None


def _date(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _version(text: str) -> tuple[Any, ...] | None:
    """An order as in section 11 of https://semver.org: a pre-release is before its release, numbers before words."""
    match = _SEMVER.fullmatch(text)
    if match is None:
        return None
    parts = [] if match[4] is None else match[4].split(".")
    if not all(parts):
        return None
    before = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
    return (int(match[1]), int(match[2]), int(match[3]), match[4] is None, before)


def _network(text: str) -> Any:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _address(text: str) -> Any:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "EQ": lambda found, wanted: found == wanted,
    "GT": lambda found, wanted: found > wanted,
    "GTE": lambda found, wanted: found >= wanted,
    "LT": lambda found, wanted: found < wanted,
    "LTE": lambda found, wanted: found <= wanted,
}
_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = MappingProxyType(
    {
        "IN": lambda found, wanted: found == wanted,
        "NOT_IN": lambda found, wanted: found != wanted,
        "STR_STARTS_WITH": lambda found, wanted: found.startswith(wanted),
        "STR_ENDS_WITH": lambda found, wanted: found.endswith(wanted),
        "STR_CONTAINS": lambda found, wanted: wanted in found,
        "DATE_AFTER": lambda found, wanted: found > wanted,
        "DATE_BEFORE": lambda found, wanted: found < wanted,
        "IN_CIDR": lambda found, wanted: found.version == wanted.version and found in wanted,
        **{f"NUM_{name}": compare for name, compare in _ORDER.items()},
        **{f"SEMVER_{name}": compare for name, compare in _ORDER.items()},
    }
)
_TEXTS: Final = ("IN", "NOT_IN", "STR_STARTS_WITH", "STR_ENDS_WITH", "STR_CONTAINS")
_READERS: Final[Mapping[str, Callable[[str], Any]]] = MappingProxyType(
    {
        **dict.fromkeys(_TEXTS, _text),
        **dict.fromkeys((f"NUM_{name}" for name in _ORDER), _number),
        **dict.fromkeys((f"SEMVER_{name}" for name in _ORDER), _version),
        **dict.fromkeys(("DATE_AFTER", "DATE_BEFORE"), _date),
        "IN_CIDR": _network,
    }
)
