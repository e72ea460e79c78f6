"""Texts in one spelling, with the way back to the original offsets. Pure.

Two presentations of the same words have the same folded text: compatibility forms and decomposed letters (NFKC), case,
digits of other scripts, soft hyphens, characters of no width. What gives a number its meaning stays: a minus is no
hyphen, `<` no quotation mark, a power no footnote.
"""

import re
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, starmap
from typing import Final, NamedTuple

__all__ = ["CURRENCIES", "SIGNS", "UNBOUND", "UNSPACED", "Edit", "Folded", "fold", "marks", "outermost", "respell"]

#: `text[start:end]` becomes the string.
Edit = tuple[int, int, str]

#: Characters of scripts without spaces between words, as the inside of a character class; every character is a token.
UNSPACED: Final = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U000323af"
    "\u0e00-\u0e3e\u0e40-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"
)
#: Those, and Korean, whose particles follow a word directly: a quote may begin or end within a run of them.
UNBOUND: Final = UNSPACED + "\uac00-\ud7ff\u3130-\u318f"
CURRENCIES: Final = "$\u00a2-\u00a5\u058f\u060b\u09f2\u09f3\u0af1\u0bf9\u0e3f\u17db\u20a0-\u20cf\ufdfc"
#: What changes the meaning of the number beside it, as folded: a minus is U+2212, `<` and `>` are U+227A and U+227B.
SIGNS: Final = CURRENCIES + "%\u2030§\u2212\u227a\u227b\u2264\u2265\u00b1\u2260"

_HYPHENS: Final = "-\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
_LESS, _MORE = "<\u2039\uff1c\ufe64", ">\u203a\uff1e\ufe65"
#: What may stand before the minus of a number: nothing that ends an expression, and no other dash.
_NO_OPERAND: Final = re.compile(r"[^\w)\]}%\-\u2010-\u2015\u2212]")
_NUMBER_AFTER: Final = re.compile(rf"[{CURRENCIES}]?\.?\d")
_NUMBER_NEAR: Final = re.compile(rf"\s{{0,3}}[{CURRENCIES}]?\s?\.?\d")
_INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef"
)
_INVISIBLES: Final = re.compile(rf"\u00ad[ \t]*\r?\n[ \t]*|[{_INVISIBLE}]")
_SUPERSCRIPTS: Final = "\u00b2\u00b3\u00b9\u2070\u2074\u2075\u2076\u2077\u2078\u2079\u207a\u207b"
_SEPARATORS: Final = {"\uff0c": ",", "\uff0e": ".", "\uff1a": ":", "\uff0f": "/", "\u066b": ".", "\u066c": ","}
#: Letters that are two in the other case, and the percent sign of Arabic.
_SAME: Final = {"\u00df": "ss", "\u1e9e": "ss", "\u0130": "i", "\u066a": "%"}
#: Signs that no compatibility form may turn into letters.
_NO_LETTERS: Final = "\u2122\u2120"
#: Blocks with marks or compatibility forms: not most of Chinese and Korean, not the private ones.
_BLOCKS: Final = ((0x80, 0x3400), (0xA000, 0xAC00), (0xF900, 0x10000))
#: Above them `re` wants few ranges: scripts of Indic descent with their marks, and everything that may have a form.
_HIGH_MARKS, _HIGH = "\U00010a00-\U00011fff\U0001e000-\U0001e94f", "\U00010000-\U0002fa1f"
_HALFWIDTH_MARKS: Final = "\uff9e\uff9f"

#: What may be spelled in another way. A single class at the front makes `re` quick.
_ASCII: Final = re.compile("[-<>]")


@dataclass(frozen=True, slots=True)
class Folded:
    """`text` in one spelling. Pieces that were kept and edited take turns, beginning with a kept one."""

    text: str
    _starts: "array[int]"
    _origins: "array[int]"

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The original offsets of `text[start:end]`, which is not empty."""
        return self._place(start)[0], self._place(end - 1)[1]

    def offset(self, original: int) -> int:
        """Where an original offset is in `text`."""
        piece = bisect_right(self._origins, original) - 1
        inside = 0 if piece % 2 else original - self._origins[piece]
        return min(self._starts[piece] + inside, len(self.text))

    def _place(self, offset: int) -> tuple[int, int]:
        piece = bisect_right(self._starts, offset) - 1
        if piece % 2:
            return self._origins[piece], self._origins[piece + 1]
        place = self._origins[piece] + offset - self._starts[piece]
        return place, place + 1


def fold(text: str, edits: Sequence[Edit] = ()) -> Folded:
    """`edits` are in order and apart; they come first, and what is left is folded. Linear."""
    pieces: list[str] = []
    starts, origins = array("q", [0]), array("q", [0])
    done = length = 0
    for start, end, new in _all_edits(text, edits):
        kept = text[done:start]
        pieces += (kept, new)
        starts.extend((length + len(kept), length + len(kept) + len(new)))
        origins.extend((start, end))
        done, length = end, starts[-1]
    pieces.append(text[done:])
    return Folded(_small("".join(pieces)), starts, origins)


def respell(text: str) -> str:
    """The folded text, with its capitals."""
    done, pieces = 0, list[str]()
    for start, end, new in _all_edits(text, ()):
        pieces += (text[done:start], new)
        done = end
    return "".join([*pieces, text[done:]])


def outermost(edits: Iterable[Edit]) -> list[Edit]:
    """In order and apart: those that begin within another are part of it."""
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit[0], -edit[1])):
        if not kept or edit[0] >= kept[-1][1]:
            kept.append(edit)
        elif edit[1] > kept[-1][1]:
            kept[-1] = (kept[-1][0], edit[1], kept[-1][2])
    return kept


def marks() -> str:
    """The inside of a character class: combining marks, which belong to the letter before them."""
    return _classes().marks


class _Classes(NamedTuple):
    marks: str
    #: What belongs to the letter before it, and what may be spelled in another way.
    follower: re.Pattern[str]
    special: re.Pattern[str]


@cache
def _classes() -> _Classes:
    """From the tables of `unicodedata`, in 0.03 s; only texts that are not ASCII need them."""
    combining, changed = list[int](), list[int]()
    for code in chain(*starmap(range, _BLOCKS)):
        character = chr(code)
        category = unicodedata.category(character)
        if category[0] == "M" or character in _HALFWIDTH_MARKS:
            combining.append(code)
        elif category[0] != "C" and character not in _NO_LETTERS and _changes(character, category):
            changed.append(code)
    own = re.escape(f"{_HYPHENS}{_LESS}{_MORE}{''.join((*_SEPARATORS, *_SAME))}")
    mark, change = _as_class(combining) + _HIGH_MARKS, _as_class(changed) + _HIGH
    inside = r"(?<=\u00ad)[ \t]*\r?\n[ \t]*|(?<=[\u1100-\u1112])[\u1161-\u1175][\u11a8-\u11c2]?"
    special = re.compile(rf"[{own}{_INVISIBLE}\u1100-\u1112{mark}{change}](?:{inside})?[{mark}]*")
    return _Classes(mark, re.compile(f"[{mark}{_INVISIBLE}]"), special)


def _changes(character: str, category: str) -> bool:
    folded = unicodedata.normalize("NFKC", character)
    # What becomes a space or punctuation is between words in either form.
    return category == "Nd" or (folded != character and any(sign.isalnum() or sign in "$%" for sign in folded))


def _as_class(codes: Sequence[int]) -> str:
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in ranges)


def _small(text: str) -> str:
    return text.lower().replace("\u03c2", "\u03c3")  # one small sigma, wherever it stands


def _all_edits(text: str, edits: Sequence[Edit]) -> Iterator[Edit]:
    ascii_only = text.isascii()
    special = _ASCII if ascii_only else _classes().special
    done = 0
    for edit in (*edits, (len(text), len(text), "")):
        for match in special.finditer(text, done, edit[0]):
            start, end = match.span()
            if not ascii_only and _classes().follower.match(text[start]):
                start = max(done, start - 1)  # the letter that it belongs to
            if (new := _spelling(text, start, end)) != text[start:end]:
                yield start, end, new
                done = end
        if edit[1] > edit[0]:
            yield edit
        done = edit[1]


def _spelling(text: str, start: int, end: int) -> str:
    found = text[start:end]
    first, before = found[0], text[start - 1 : start]
    if first in _HYPHENS:
        return _hyphen(text, start, before)
    if first in _LESS or first in _MORE:
        sign = "\u227a" if first in _LESS else "\u227b"
        return sign if _NUMBER_NEAR.match(text, end) else first
    if first in _SEPARATORS:
        return _SEPARATORS[first] if before.isdecimal() and text[end : end + 1].isdecimal() else first
    if first in _SUPERSCRIPTS and before.isdigit():
        return found  # a power
    if not found.isascii() and first.isdecimal():
        found = f"{unicodedata.decimal(first)}{found[1:]}"
    space = " " if before.isdecimal() and unicodedata.decomposition(first).startswith("<fraction>") else ""
    return space + _compatible(found)


@lru_cache(maxsize=8_192)
def _compatible(found: str) -> str:
    plain = unicodedata.normalize("NFKC", _INVISIBLES.sub("", found)).replace("\u2044", "/")
    return "".join(_SAME.get(letter, letter) for letter in plain)


def _hyphen(text: str, start: int, before: str) -> str:
    minus = text[start] == "\u2212"
    if (not before or _NO_OPERAND.match(before)) and (_NUMBER_NEAR if minus else _NUMBER_AFTER).match(text, start + 1):
        return "\u2212"
    return "-" if minus else text[start]
