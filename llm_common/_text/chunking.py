"""Splits long texts into parts, at their own sections where they have some, without losing a character. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from llm_common.exceptions import InvalidInputError

__all__ = ["Part", "parts_from_ends", "split"]

Span = tuple[int, int]

#: Where a text may be cut, the best places first: before a heading, after an empty line, after a line, after a
#: sentence, after a word. What is still too long is cut between any two characters.
_CUTS: Final = (
    re.compile(
        r"^(?=[ \t]*(?:(?:SECTION|SEC\.|ARTICLE|CHAPTER|TITLE|PART|DIVISION|Section|Sec\.|Article|Chapter|Title|Part)"
        r"[ \t]+[\dIVXLC]|§|#{1,6}[ \t]|\d{1,4}(?:\.\d{1,4})*[.)]?[ \t]+[A-Z]))",
        re.MULTILINE,
    ),
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"\n"),
    re.compile(r"[.;!?][\"')\]\u201d\u2019]*\s+"),
    re.compile(r"\s+"),
)


@dataclass(frozen=True, slots=True)
class Part:
    """`text[start:end]`, the part with this number (from 1) of so many."""

    number: int
    of: int
    start: int
    end: int

    @classmethod
    def whole(cls, text: str) -> "Part":
        return cls(1, 1, 0, len(text))


def parts_from_ends(ends: Sequence[int]) -> tuple[Part, ...]:
    """The parts of a text, from the offsets where each one ends."""
    return _numbered(zip((0, *ends), ends, strict=False))


def split(text: str, limit: int, measure: Callable[[str], int]) -> tuple[Part, ...]:
    """Splits `text` into parts of at most `limit`, each filled before the next begins; together they are the text.

    `measure` says how large a text is (in tokens, say). Two texts one after the other must not be larger than both
    together. Raises `InvalidInputError` where a single character is larger than `limit`.
    """
    return _numbered(_packed(_pieces(text, (0, len(text)), limit, measure, _CUTS), limit))


def _numbered(spans: Iterable[Span]) -> tuple[Part, ...]:
    spans = tuple(spans)
    return tuple(Part(number, len(spans), start, end) for number, (start, end) in enumerate(spans, start=1))


def _pieces(
    text: str, span: Span, limit: int, measure: Callable[[str], int], cuts: Sequence[re.Pattern[str]]
) -> Iterator[tuple[Span, int]]:
    """Pieces that fit, with their sizes; cut only as finely as it takes."""
    start, end = span
    size = measure(text[start:end])
    if size <= limit:
        yield span, size
        return
    if end - start == 1:
        raise InvalidInputError(f"the character at {start} alone is larger than a part may be ({limit})")
    places, finer = _places(text, start, end, cuts)
    for inner in zip([start, *places], [*places, end], strict=True):
        yield from _pieces(text, inner, limit, measure, finer)


def _places(
    text: str, start: int, end: int, cuts: Sequence[re.Pattern[str]]
) -> tuple[list[int], Sequence[re.Pattern[str]]]:
    """The best places to cut, and what is left for a second cut; the middle, where there is no good one."""
    for level, cut in enumerate(cuts, start=1):
        places = [match.end() for match in cut.finditer(text, start, end) if start < match.end() < end]
        if places:
            return places, cuts[level:]
    return [(start + end) // 2], ()


def _packed(pieces: Iterator[tuple[Span, int]], limit: int) -> list[Span]:
    """Neighbours together, as long as they fit."""
    packed: list[Span] = []
    used = 0
    for (start, end), size in pieces:
        if packed and used + size <= limit:
            packed[-1] = (packed[-1][0], end)
            used += size
        else:
            packed.append((start, end))
            used = size
    return packed
