"""Finds a quote in a text, whatever the presentation of either is. Pure.

A quote is found whatever its spacing, punctuation, case, hyphenation and spelling of letters are (see `folding`); its
words, numbers and signs must be the text's, one after the other. What the text strikes out (see `revision_marks`) is
not part of it, and what printing added (see `page_furniture`) may be left out.
"""

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache, cached_property, lru_cache
from itertools import chain, pairwise
from typing import Final, NamedTuple

from llm_common._text.figures import NUMBER_WORDS
from llm_common._text.folding import (
    CURRENCIES,
    SIGNS,
    UNBOUND,
    UNSPACED,
    Edit,
    Folded,
    fold,
    marks,
    outermost,
)
from llm_common._text.page_furniture import furniture_spans
from llm_common._text.revision_marks import brackets_strike, revision_edits

__all__ = ["find_quote", "live_text", "unusable"]

Span = tuple[int, int]

#: Characters of the longest quote that is looked up.
_MAX_QUOTE: Final = 4_000
_MIN_WORDS, _MIN_LETTERS = 3, 12

_FIGURE_WORD: Final = re.compile(rf"\d|(?:{NUMBER_WORDS})\b")
_ENDS_IN_FIGURE: Final = re.compile(rf"(?:\d|\b(?:{NUMBER_WORDS}))\Z")
_FIGURE_BEFORE: Final = re.compile(rf"(?:[{CURRENCIES}]\s*|(?:\b(?:{NUMBER_WORDS})[\s-]+)+)\Z")
_FIGURE_AFTER: Final = re.compile(
    rf"(?:[\s-]+(?:{NUMBER_WORDS})\b)+(?:\s+dollars\b)?|\s*[%\u2030]|\s+percent\b"
    r"|[\u5341\u767e\u5343\u4e07\u842c\u5104\u4ebf\u5146]+"
)
_SEPARATORS: Final = (".", ",", ":", "/")
#: A hyphen with the line broken after it.
_BREAK: Final = r"[-\u2010\u2011][ \t]*\r?\n\s*"
_BREAK_BEFORE: Final = re.compile(rf"[^\W\d_]{_BREAK}\Z")
_BREAK_AFTER: Final = re.compile(rf"{_BREAK}[^\W\d_]")
_BREAK_INSIDE: Final = re.compile(rf"(?<=[^\W\d_]){_BREAK}(?=[^\W\d_])")
#: Between two letters of one word, and between any two of a word that is s p a c e d out.
_BROKEN: Final = rf"(?:{_BREAK}|[-\u2010\u2011])?"
_SPACED: Final = r"\s+"
#: A reference to a note after a word or its punctuation, which is no part of the sentence; `m²` is none.
_NOTE: Final = (
    re.compile(r"[\u00b9\u00b2\u00b3\u2070\u2074-\u2079]+"),
    re.compile(r"\[\d{1,3}\]"),
    re.compile(r"[<\u2039]sup[>\u203a]\d{1,3}[<\u2039]/sup[>\u203a]", re.IGNORECASE),
)
_BEFORE_NOTE: Final = re.compile(r"(?:[^\W\d_]{3}|[.,;:!?\u201d\u2019\"')])\Z")
_UNSPACED: Final = re.compile(f"[{UNSPACED}]")
_UNBOUND: Final = re.compile(f"[{UNBOUND}]")
_SIGN: Final = re.compile(f"[{SIGNS}]")
_ASCII_GAPS: Final = bytes(code for code in range(128) if not chr(code).isalnum() and chr(code) not in "$%")

_BLOCK: Final = 4_096
#: Places with the quote's letters whose words are others; a text with more of them is no text.
_MOST_CANDIDATES: Final = 50_000
#: Texts longer than this are large; a few of them are kept indexed, and many small ones.
_LARGE: Final = 20_000


def find_quote(quote: str, text: str, start: int = 0, end: int | None = None) -> Span | None:
    """Where `quote` is in `text[start:end]`, as offsets in `text`.

    None where it is not, or is too short to support anything. A figure that is cut in two, also by `start` or `end`, is
    taken in whole. The first look-up indexes the text, in linear time; the next ones take milliseconds.
    """
    source = _source(text)
    tokens = _tokens(quote, brackets=source.brackets)
    if not _says_something(tokens):
        return None
    stop = len(text) if end is None else end
    places = (layout.find(tokens, start, stop) for layout in source.layouts())
    return next((place for place in places if place is not None), None)


def unusable(quote: str) -> str | None:
    """Why a quote is not even looked up; None where it is."""
    if len(quote) > _MAX_QUOTE:
        return f"has {len(quote):,} characters, of which at most {_MAX_QUOTE:,} are looked up; quote what matters of it"
    if not _says_something(_tokens(quote, brackets=False)):
        return f"is too short to support anything; quote at least {_MIN_WORDS} words"
    return None


def live_text(text: str, start: int = 0, end: int | None = None) -> str:
    """`text[start:end]` as it is in force: without what is struck, without numbers of lines and headers of pages."""
    stop = len(text) if end is None else end
    pieces: list[str] = []
    done = start
    for first, last, replacement in _source(text).removed:
        if last > start and first < stop:
            pieces += (text[done:first], replacement)
            done = last
    return "".join([*pieces, text[done:stop]])


class _Source:
    """A text, prepared for many quotes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.brackets = brackets_strike(text)
        self._revisions = revision_edits(text, brackets=self.brackets)

    @cached_property
    def removed(self) -> list[Edit]:
        """Everything that may be left out of a quote, apart from references to notes."""
        furniture = furniture_spans(self._text)
        return outermost([*self._revisions, *((start, end, "") for start, end in furniture)])

    @cached_property
    def _as_printed(self) -> "_Layout":
        return _Layout(fold(self._text, self._revisions))

    @cached_property
    def _as_written(self) -> "_Layout | None":
        found = chain.from_iterable(note.finditer(self._text) for note in _NOTE)
        notes = [
            (match.start(), match.end(), "")
            for match in found
            if _BEFORE_NOTE.search(self._text, max(0, match.start() - 3), match.start())
        ]
        removed = outermost([*self.removed, *notes])
        return None if removed == self._revisions else _Layout(fold(self._text, removed))

    def layouts(self) -> Iterator["_Layout"]:
        yield self._as_printed
        if self._as_written is not None:
            yield self._as_written


_large_source = lru_cache(maxsize=4)(_Source)
_small_source = lru_cache(maxsize=256)(_Source)


def _source(text: str) -> _Source:
    return _large_source(text) if len(text) > _LARGE else _small_source(text)


class _Layout:
    """A folded text, and its letters, digits and signs without anything between them: where a quote is looked up."""

    def __init__(self, folded: Folded) -> None:
        self._folded, self._text = folded, folded.text
        blocks = [_compact(self._text[at : at + _BLOCK]) for at in range(0, len(self._text), _BLOCK)]
        self._compact = "".join(blocks)
        self._counts = array("q", [0])
        for block in blocks:
            self._counts.append(self._counts[-1] + len(block))

    def find(self, tokens: Sequence[str], start: int, stop: int) -> Span | None:
        """The first place whose words and gaps are the quote's, within these original offsets."""
        first, last = self._folded.offset(start), self._folded.offset(stop)
        for begin in self._candidates(_compact("".join(tokens)), first):
            if begin >= last:
                return None
            end = _end_of(self._text, begin, tokens) if begin >= first else None
            if end is not None and end <= last:
                return self._folded.span(*_whole_figures(begin, end, self._text))
        return None

    def _candidates(self, needle: str, first: int) -> Iterator[int]:
        """Where the letters, digits and signs of the quote begin, whatever is between them."""
        at = self._counts[min(first // _BLOCK, len(self._counts) - 1)] - 1
        known, places = -1, list[int]()
        for _ in range(_MOST_CANDIDATES):
            if (at := self._compact.find(needle, at + 1)) < 0:
                return
            if (block := bisect_right(self._counts, at) - 1) != known:
                signs = _patterns().inner.finditer(self._text, block * _BLOCK, (block + 1) * _BLOCK)
                known, places = block, [match.start() for match in signs]
            yield places[at - self._counts[block]]


class _Patterns(NamedTuple):
    #: What must agree: a number with its separators, a word with its marks, a sign; and one character of any of them.
    token: re.Pattern[str]
    inner: re.Pattern[str]
    gap: re.Pattern[str]
    mark: re.Pattern[str]


@cache
def _patterns() -> _Patterns:
    mark = marks()
    return _Patterns(
        token=re.compile(
            rf"\d+(?:[.,:/]\d+)*|[{UNSPACED}][{mark}]*|(?:(?![{UNSPACED}])[^\W\d_][{mark}]*)+|[{SIGNS}]|[{mark}]+"
        ),
        inner=re.compile(rf"[^\W_]|[{mark}{SIGNS}]"),
        gap=re.compile(rf"(?:[^\w{mark}{SIGNS}]|_)*"),
        mark=re.compile(f"[{mark}]"),
    )


def _compact(text: str) -> str:
    if text.isascii():
        return text.encode().translate(None, _ASCII_GAPS).decode()
    return _patterns().gap.sub("", text)


def _tokens(quote: str, *, brackets: bool) -> list[str]:
    if len(quote) > _MAX_QUOTE:
        return []
    plain = fold(quote, revision_edits(quote, brackets=brackets)).text
    return _patterns().token.findall(_BREAK_INSIDE.sub("", plain))


def _says_something(tokens: Sequence[str]) -> bool:
    # Where words have no spaces between them, two characters are about a word.
    words = sum(0.5 if _UNSPACED.match(token) else 1.0 for token in tokens)
    return words >= _MIN_WORDS or sum(map(len, tokens)) >= _MIN_LETTERS


def _end_of(text: str, begin: int, tokens: Sequence[str]) -> int | None:
    """Where the quote ends that begins at this letter, digit or sign; None where it is another text."""
    if not _may_begin(text, begin, tokens[0]):
        return None
    end = _token_end(text, begin, tokens[0])
    for before, token in pairwise(tokens):
        if end is None:
            return None
        gap = _patterns().gap.match(text, end)
        start = gap.end() if gap else end
        if not _may_follow(before, token, text[end:start]):
            return None
        end = _token_end(text, start, token)
    return end if end is not None and _may_end(text, end, tokens[-1]) else None


def _token_end(text: str, at: int, token: str) -> int | None:
    if text.startswith(token, at):
        return at + len(token)
    match = _apart(token).match(text, at) if len(token) > 1 and token[0].isalpha() else None
    return match.end() if match else None


@lru_cache(maxsize=4_096)
def _apart(word: str) -> re.Pattern[str]:
    letters = [match[0] for match in re.finditer(rf".{_patterns().mark.pattern}*", word)]
    return re.compile(f"{_BROKEN.join(letters)}|{_SPACED.join(letters)}")


def _may_follow(before: str, token: str, gap: str) -> bool:
    """Two words, and two numbers, need something between them that does not make them one; others may touch."""
    if before[0].isdecimal() and token[0].isdecimal():
        return bool(gap) and gap not in _SEPARATORS
    words = before[0].isalpha() and token[0].isalpha() and not (_UNSPACED.match(before) or _UNSPACED.match(token))
    return bool(gap) or not words


def _may_begin(text: str, begin: int, token: str) -> bool:
    """Not within a word or a number, nor after the sign of one."""
    before = text[begin - 1 : begin]
    if not before or "\u2212" in text[max(0, begin - 2) : begin]:
        return not before
    if _SIGN.match(token):
        return True
    if token[0].isdecimal() and before in _SEPARATORS and text[begin - 2 : begin - 1].isdecimal():
        return False
    if _BREAK_BEFORE.search(text, max(0, begin - 80), begin):
        return False
    return before == "_" or not _is_inner(before) or bool(_UNBOUND.match(token) or _UNBOUND.match(before))


def _may_end(text: str, end: int, token: str) -> bool:
    after = text[end : end + 1]
    if not after or _SIGN.match(token):
        return True
    if token[0].isdecimal() and after in _SEPARATORS and text[end + 1 : end + 2].isdecimal():
        return False
    if _BREAK_AFTER.match(text, end) or _patterns().mark.match(after):
        return False
    return not _is_inner(after) or bool(_UNBOUND.match(text[end - 1]) or _UNBOUND.match(after))


def _is_inner(character: str) -> bool:
    return not _SIGN.match(character) and bool(_patterns().inner.match(character))


def _whole_figures(start: int, end: int, text: str) -> Span:
    """A quote that begins or ends within a figure takes the rest of it in: "$15" out of "$15 million" would lie."""
    before = _FIGURE_BEFORE.search(text[max(0, start - 60) : start])
    if before and _FIGURE_WORD.match(text, start):
        start -= len(before[0])
    after = _FIGURE_AFTER.match(text, end)
    return start, after.end() if after and _ENDS_IN_FIGURE.search(text[max(0, end - 30) : end]) else end
