"""The figures in a text: money, percentages, counts, years, however they are written. Pure.

"$1.5 million", "1,500,000 dollars" and "one million five hundred thousand dollars" are one figure. A number that only
names something (Section 12, AB 1234, S3) is none.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

__all__ = ["NUMBER_WORDS", "Figure", "Unit", "figures", "unsupported_figures"]

Unit = Literal["usd", "percent", ""]

_SMALL: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS: Final = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBERS: Final = {word: value for value, word in enumerate(_SMALL.split())} | {
    word: 10 * tens for tens, word in enumerate(_TENS.split(), start=2)
}
_SCALES: Final = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SHORT_SCALES: Final = {"k": 10**3, "m": 10**6, "mn": 10**6, "bn": 10**9}
#: A pattern for the words that numbers are written with.
NUMBER_WORDS: Final = "|".join(sorted({**_NUMBERS, **_SCALES}, key=len, reverse=True))
#: Small counts in words are how people write; nobody takes "one of two programs" for a figure.
_CASUAL_UP_TO: Final = 12

_NAMES: Final = re.compile(
    r"(?:\b(?:[Ss]ections?|[Ss]ecs?\.?|SECTIONS?|SEC\.|[Ss]ubdivisions?|[Ss]ubsections?|[Pp]aragraphs?|[Cc]lauses?"
    r"|[Cc]hapters?|[Aa]rticles?|Titles?|Parts?|Divisions?|Items?|Bills?|[Nn]os?\.|AB|SB|HB|HR|SR|H\.R\.)|§+)"
    r"[\s-]*\d[\w.-]*"
    r"|\b(?!USD|FY)(?:[A-Z]{1,5}-?|[A-Za-z]+)\d[\w-]*"
)
_NUMERAL: Final = re.compile(
    r"(?P<dollars>(?:\$|\bUSD)\s*)?(?<![\d.,])(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    rf"(?:[\s-]*(?P<scale>{'|'.join(_SCALES)})\b|(?P<short>{'|'.join(_SHORT_SCALES)})\b)?",
    re.IGNORECASE,
)
_WORD: Final = "|".join(sorted(_NUMBERS, key=len, reverse=True))
_SPELLED: Final = re.compile(rf"\b(?:{_WORD})(?:(?:[\s-]+|\s+and\s+)(?:{_WORD}|{'|'.join(_SCALES)}))*\b", re.IGNORECASE)
_UNIT_AFTER: Final = re.compile(
    r"\s*(?:\(\s*[\d.,]+\s*\)\s*)?[\s-]*(?:(?P<usd>(?:US\s+)?dollars?\b|USD\b)|(?P<percent>%|per\s?cent\b|percentage\s+points?\b))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its unit. `casual`: a small count in words."""

    value: Decimal
    unit: Unit
    casual: bool = False

    def __str__(self) -> str:
        number = f"{self.value.normalize():{',' if self.unit else ''}f}"
        return {"usd": f"${number}", "percent": f"{number}%", "": number}[self.unit]


def figures(text: str) -> list[Figure]:
    """Every figure in `text`, in order of appearance by kind: numerals first, then numbers in words."""
    text = _NAMES.sub(" ", text)
    return [*_numerals(text), *_spelled(text)]


def unsupported_figures(claim: str, quotes: str) -> list[Figure]:
    """The figures of `claim` that `quotes` does not have.

    A bare number may stand for one with a unit, not the other way round.
    """
    known = {(figure.value, figure.unit) for figure in figures(quotes)}
    values = {value for value, _ in known}
    return [
        figure
        for figure in figures(claim)
        if not figure.casual
        and (figure.value, figure.unit) not in known
        and (figure.unit or figure.value not in values)
    ]


def _numerals(text: str) -> Iterator[Figure]:
    for match in _NUMERAL.finditer(text):
        scale = _SCALES.get((match["scale"] or "").lower()) or _SHORT_SCALES.get((match["short"] or "").lower(), 1)
        value = Decimal(match["number"].replace(",", "")) * scale
        yield Figure(value, "usd" if match["dollars"] else _unit_after(text, match.end()))


def _spelled(text: str) -> Iterator[Figure]:
    for match in _SPELLED.finditer(text):
        words = re.findall(r"[a-z]+", match[0].lower())
        value, unit = Decimal(_value_of(words)), _unit_after(text, match.end())
        yield Figure(value, unit, casual=not unit and value <= _CASUAL_UP_TO)


def _value_of(words: list[str]) -> int:
    """ "two hundred fifty thousand" → 250000."""
    total = group = 0
    for word in words:
        if word in _NUMBERS:
            group += _NUMBERS[word]
        elif word == "hundred":
            group *= _SCALES[word]
        elif word in _SCALES:
            total, group = total + group * _SCALES[word], 0
    return total + group


def _unit_after(text: str, position: int) -> Unit:
    match = _UNIT_AFTER.match(text, position)
    if match is None:
        return ""
    return "usd" if match["usd"] else "percent"
