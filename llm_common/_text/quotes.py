"""Finding a quote in a text. Pure.

A quote is found whatever its spacing, punctuation, case, typographic quotes and hyphenation are; its words, numbers and
currency signs must be the text's, one after the other.
"""

import re
from collections.abc import Sequence
from typing import Final

from llm_common._text.figures import NUMBER_WORDS

__all__ = ["find_quote"]

_MIN_WORDS, _MIN_LETTERS, _MAX_QUOTE = 3, 12, 4_000

#: What must agree: a number with its separators, a word, a sign that gives a number its meaning.
_TOKEN: Final = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W\d_]+|[$€£¥%§]")
_GAP: Final = r"[^\w$€£¥%§]|_"
_SIGNS: Final = frozenset("$€£¥%§")
_FIGURE_WORD: Final = re.compile(rf"\d|(?:{NUMBER_WORDS})\b", re.IGNORECASE)
_ENDS_IN_FIGURE: Final = re.compile(rf"(?:\d|\b(?:{NUMBER_WORDS}))\Z", re.IGNORECASE)
_FIGURE_BEFORE: Final = re.compile(rf"(?:[$€£¥]\s*|(?:\b(?:{NUMBER_WORDS})[\s-]+)+)\Z", re.IGNORECASE)
_FIGURE_AFTER: Final = re.compile(rf"(?:[\s-]+(?:{NUMBER_WORDS})\b)+(?:\s+dollars\b)?|\s*%|\s+percent\b", re.IGNORECASE)
#: Between two letters of one word: what nobody sees, a hyphen, a hyphen with the line broken after it.
_BROKEN: Final = r"[\u00ad\u200b-\u200d\u2060]*(?:[-\u2010\u2011](?:[ \t]*\n\s*)?)?"
#: Between any two letters of a word that is s p a c e d out.
_SPACED: Final = r"\s+"


def find_quote(quote: str, text: str, start: int = 0, end: int | None = None) -> tuple[int, int] | None:
    """Where `quote` is in `text[start:end]`, as offsets in `text`.

    None where it is not, or is too short to support anything. A figure that is cut in two, also by `start` or `end`, is
    taken in whole.
    """
    tokens = _TOKEN.findall(quote)
    if not _says_something(tokens) or len(quote) > _MAX_QUOTE:
        return None
    stop = len(text) if end is None else end
    match = _pattern(tokens, letters_apart=False).search(text, start, stop) or _pattern(
        tokens, letters_apart=True
    ).search(text, start, stop)
    return _whole_figures(*match.span(), text) if match else None


def _says_something(tokens: Sequence[str]) -> bool:
    return len(tokens) >= _MIN_WORDS or sum(map(len, tokens)) >= _MIN_LETTERS


def _pattern(tokens: Sequence[str], *, letters_apart: bool) -> re.Pattern[str]:
    parts: list[str] = []
    for before, token in zip(["", *tokens], tokens, strict=False):
        if before:
            # Two words, and two numbers, need something between them; other neighbours may touch.
            alike = (before.isalpha() and token.isalpha()) or (before[0].isdigit() and token[0].isdigit())
            parts.append(f"(?:{_GAP})" + ("+" if alike else "*"))
        parts.append(_apart(token) if letters_apart and token.isalpha() else re.escape(token))
    start = r"(?<!\w)(?<!\d[.,:/])" if tokens[0] not in _SIGNS else ""
    end = r"(?!\w)(?![.,:/]\d)" if tokens[-1] not in _SIGNS else ""
    return re.compile(start + "".join(parts) + end, re.IGNORECASE)


def _apart(word: str) -> str:
    return f"(?:{_BROKEN.join(word)}|{_SPACED.join(word)})"


def _whole_figures(start: int, end: int, text: str) -> tuple[int, int]:
    """A quote that begins or ends within a figure takes the rest of it in: "$15" out of "$15 million" would lie."""
    before = _FIGURE_BEFORE.search(text[max(0, start - 60) : start])
    if before and _FIGURE_WORD.match(text, start):
        start -= len(before[0])
    after = _FIGURE_AFTER.match(text, end)
    return start, after.end() if after and _ENDS_IN_FIGURE.search(text[max(0, end - 30) : end]) else end
