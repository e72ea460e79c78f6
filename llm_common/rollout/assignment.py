"""Who gets the new path. Pure decisions."""

from uuid import UUID

import mmh3

from llm_common.exceptions import InvalidInputError

__all__ = ["Unit", "bucket", "checked_percentage", "is_in"]

#: Whom a flag is decided for: a user, a tenant, a document. None and "" are nobody, and get the old path.
Unit = str | int | UUID | None


def bucket(group: str, unit: str) -> int:
    """1 to 100, the same in every process and language.

    Unleash's hash: `murmur3_32("group:unit", seed 0) % 100 + 1`
    (https://docs.getunleash.io/reference/stickiness). A unit is in when its bucket is at most the percentage, so a
    higher percentage only ever adds units.
    """
    return mmh3.mmh3_32_uintdigest(f"{group}:{unit}".encode(errors="surrogatepass"), 0) % 100 + 1


def is_in(group: str, unit: Unit, percentage: int) -> bool:
    """Whether a unit is among so many percent; a missing one never is."""
    text = "" if unit is None else str(unit)
    return text != "" and bucket(group, text) <= percentage


def checked_percentage(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100:  # noqa: PLR2004 (percent)
        raise InvalidInputError(f"a percentage is a whole number from 0 to 100, not {value!r}")
    return value
