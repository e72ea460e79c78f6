"""The figures in a text: money, percentages, counts, years, however they are written. Pure.

"$1.5 million", "1,500,000 dollars" and "one million five hundred thousand dollars" are one figure; so are "2½ %" and
"2.5 percent", in the digits of whatever script. -5 is another one than 5. A number that only names something (Section
12, AB 1234, S3) is none.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from llm_common._text.folding import respell

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
_SCALES: Final = {
    "hundred": 10**2,
    "thousand": 10**3,
    "lakh": 10**5,
    "million": 10**6,
    "crore": 10**7,
    "billion": 10**9,
    "trillion": 10**12,
}
#: Directly after the digits. The Chinese and Japanese ones are those of ten thousand and more.
_SHORT_SCALES: Final = {"k": 10**3, "m": 10**6, "mn": 10**6, "b": 10**9, "bn": 10**9, "tn": 10**12}
_MYRIADS: Final = {"\u4e07": 10**4, "\u842c": 10**4, "\u4ebf": 10**8, "\u5104": 10**8, "\u5146": 10**12}
#: A pattern for the words that numbers are written with.
NUMBER_WORDS: Final = "|".join(sorted({*_NUMBERS, *_SCALES}, key=len, reverse=True))
#: Small counts in words are how people write; nobody takes "one of two programs" for a figure.
_CASUAL_UP_TO: Final = 12
#: Digits after these are the rest of a number that was read already, or of one that is none.
_POINTS: Final = (".", ",")

_NAMES: Final = re.compile(
    r"(?:\b(?:[Ss]ections?|[Ss]ecs?\.?|SECTIONS?|SEC\.|[Ss]ubdivisions?|[Ss]ubsections?|[Pp]aragraphs?|[Cc]lauses?"
    r"|[Cc]hapters?|[Aa]rticles?|Titles?|Parts?|Divisions?|Items?|Bills?|[Nn]os?\.|AB|SB|HB|HR|SR|H\.R\.)|§+)"
    r"[\s-]*\d[\w.-]*"
    r"|\b(?!USD|FY)(?:[A-Z]{1,5}-?|[A-Za-z]+)\d[\w-]*"
)
_DIGITS: Final = re.compile("[0-9]+")
_NUMERAL: Final = re.compile(
    r"(?:(?<!/)(?:(?P<whole>[0-9]{1,4})[ -])?(?P<part>[0-9]{1,2})/(?P<of>[0-9]{1,3})(?![0-9/])"
    r"|(?P<number>[0-9]{1,3}(?:,[0-9]{2,3})*,[0-9]{3}(?:\.[0-9]+)?"
    r"|[0-9]{1,3}(?:[\u00a0\u2009\u202f'\u2019][0-9]{3})+(?:\.[0-9]+)?"
    r"|[0-9]{1,3}(?:\.[0-9]{3}){2,}(?![0-9])|[0-9]+(?:\.[0-9]+)?))"
    rf"(?:[\s-]*(?P<scale>{'|'.join(_SCALES)})\b|(?P<short>{'|'.join(_SHORT_SCALES)})\b|(?P<myriad>[{''.join(_MYRIADS)}]))?",
    re.IGNORECASE,
)
_GROUPING: Final = re.compile(r"[,\u00a0\u2009\u202f'\u2019]|\.(?=[0-9]{3}\.)|(?<=\.[0-9]{3})\.")
#: What stands before a figure: its sign, its currency, or either before the other.
_BEFORE: Final = re.compile(
    r"(?P<negative>\u2212\s?|\b(?:minus|negative)\s+)?(?P<usd>(?:(?<![A-Za-z])\$|\bUS\$|\bUSD)\s*(?P<below>\u2212)?)?\Z",
    re.IGNORECASE,
)
_BEFORE_REACH: Final = 16
_WORD: Final = "|".join(sorted(_NUMBERS, key=len, reverse=True))
_SPELLED: Final = re.compile(rf"(?:{_WORD})(?:(?:[\s-]+|\s+and\s+)(?:{_WORD}|{'|'.join(_SCALES)}))*\b")
_UNIT_AFTER: Final = re.compile(
    r"\s*(?:\(\s*[\d.,]+\s*\)\s*)?[\s-]*"
    r"(?:(?P<usd>(?:US\s+)?dollars?\b|USD\b)|(?P<percent>%|per\s?cent\b|pct\b|percentage\s+points?\b))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its unit. `casual`: a small count in words."""

    value: Decimal
    unit: Unit
    casual: bool = False

    def __str__(self) -> str:
        number = f"{abs(self.value).normalize():{',' if self.unit else ''}f}"
        shown = {"usd": f"${number}", "percent": f"{number}%", "": number}[self.unit]
        return f"-{shown}" if self.value < 0 else shown


def figures(text: str) -> list[Figure]:
    """Every figure in `text`, in order of appearance by kind: numerals first, then numbers in words."""
    text = _NAMES.sub(" ", respell(text))
    return [*_numerals(text), *_spelled(text)]


def unsupported_figures(claim: str, quotes: str) -> list[Figure]:
    """The figures of `claim` that `quotes` does not have.

    A bare number may stand for one with a unit, not the other way round.
    """
    claimed = [figure for figure in figures(claim) if not figure.casual]
    if not claimed:
        return []
    known = {(figure.value, figure.unit) for figure in figures(quotes)}
    values = {value for value, _ in known}
    return [
        figure
        for figure in claimed
        if (figure.value, figure.unit) not in known and (figure.unit or figure.value not in values)
    ]


def _numerals(text: str) -> Iterator[Figure]:
    done = 0
    for digits in _DIGITS.finditer(text):
        start = digits.start()
        match = _NUMERAL.match(text, start) if start >= done and text[start - 1 : start] not in _POINTS else None
        if match is None:
            continue
        done = match.end()
        sign, dollars = _before(text, start)
        unit: Unit = "usd" if dollars else _unit_after(text, done)
        if match["number"]:
            yield Figure(sign * Decimal(_GROUPING.sub("", match["number"])) * _scale(match), unit)
        else:
            yield from _fraction(match, sign, unit)


def _fraction(match: re.Match[str], sign: int, unit: Unit) -> Iterator[Figure]:
    """`2 1/2 percent`; and the numbers of a date, a case or a ratio, each for itself."""
    numbers = [Decimal(match[name]) for name in ("whole", "part", "of") if match[name]]
    part, of = numbers[-2:]
    if 0 < part < of:
        yield Figure(sign * (sum(numbers[:-2], Decimal(0)) + part / of) * _scale(match), unit)
        if unit:
            return
    yield from (Figure(number, unit if number is of else "") for number in numbers)


def _scale(match: re.Match[str]) -> int:
    if match["scale"]:
        return _SCALES[match["scale"].lower()]
    return _SHORT_SCALES[match["short"].lower()] if match["short"] else _MYRIADS.get(match["myriad"] or "", 1)


def _before(text: str, start: int) -> tuple[int, bool]:
    """The sign of a figure, and whether it is one of dollars."""
    match = _BEFORE.search(text, max(0, start - _BEFORE_REACH), start)
    assert match is not None  # it may be empty
    return -1 if match["negative"] or match["below"] else 1, match["usd"] is not None


def _spelled(text: str) -> Iterator[Figure]:
    small = text.lower()
    for match in _SPELLED.finditer(small):
        if small[match.start() - 1 : match.start()].isalnum():
            continue
        value, unit = Decimal(_value_of(re.findall(r"[a-z]+", match[0]))), _unit_after(small, match.end())
        sign, _ = _before(small, match.start())
        yield Figure(sign * value, unit, casual=not unit and sign > 0 and value <= _CASUAL_UP_TO)


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
