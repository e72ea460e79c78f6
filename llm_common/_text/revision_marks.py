"""What an amended text strikes out, and the marks with which it says so. Pure.

A bill shows old law beside new: `<strike>`, `<s>`, `<del>`, `~~text~~`, letters with a line through, "deleted text
begin ... end" (Minnesota), or brackets where the bill itself explains that they enclose what is to be omitted (New
York, New Jersey, Nevada, ...). New law is underlined or in italics; these marks are no part of the text.
"""

import re
from collections.abc import Iterator
from heapq import merge
from itertools import chain, islice
from typing import Final

from llm_common._text.folding import Edit, outermost

__all__ = ["brackets_strike", "revision_edits"]

_OPENS: Final = "[<\u2039\uff1c\ufe64]"
_INSIDE: Final = r"[^<>\u2039\u203a\n]{0,300}[>\u203a\uff1e\ufe65]"
#: What opens or closes a struck passage. Each begins with one class, which `re` looks for quickly.
_TAG: Final = re.compile(rf"{_OPENS}(?P<end>/?)(?P<name>strike|s|del|span)\b(?P<more>{_INSIDE})", re.IGNORECASE)
_TILDES: Final = re.compile(r"~~(?!~)(?<!~~~)")
_WORDS: Final = re.compile(r"[dD](?:eleted|ELETED)\s+(?:text|TEXT)\s+(?P<edge>begin|end|BEGIN|END)\b")
_BRACKETS: Final = re.compile(r"[\[\]]")
_STRUCK_LETTER: Final = re.compile(r"[\u0335\u0336]+")
_MARKS: Final = (
    re.compile(
        rf"{_OPENS}(?:(?P<block>/?(?:p|br|div|li|tr|td|h[1-6])\b)"
        rf"|/?(?:ins|u|b|i|em|strong|font|span|mark|small|big|tt|a|sup|sub)\b){_INSIDE}",
        re.IGNORECASE,
    ),
    re.compile(r"[nN](?:ew|EW)(?P<block>\s)\s*(?:text|TEXT)\s+(?:begin|end|BEGIN|END)\b"),
)
_BLANK_LINE: Final = re.compile(r"\n[ \t]*\r?\n")

_BRACKET: Final = re.compile(r"[bB](?:racket|RACKET)(?:ed|ED|s|S)?\b")
#: Brackets of another kind.
_OTHER_BRACKETS: Final = re.compile(r"(?:tax|income|rate|age|wage)[ -]\Z", re.IGNORECASE)
_MOST_BRACKETS: Final = 100
_OMITTED: Final = re.compile(
    r"\b(?:omit|omitted|omission|delet(?:ed?|ions?|ing)|repeal(?:ed)?|struck|strike|stricken|remov(?:ed?|al)"
    r"|old law|eliminated)\b",
    re.IGNORECASE,
)
_ADDED: Final = re.compile(r"\b(?:new|add(?:ed|itions?)?|insert(?:ed|ions?)?)\b", re.IGNORECASE)
_ABOUT_TEXT: Final = re.compile(
    r"\b(?:matter|materials?|text|language|words?|law|provisions?|deletions?)\b|\[", re.IGNORECASE
)
_SENTENCE_REACH: Final = 200


def revision_edits(text: str, *, brackets: bool) -> list[Edit]:
    """Struck passages and marks of revision, each with what stands in their place. `brackets`: they strike, too."""
    marks = chain.from_iterable(mark.finditer(text) for mark in _MARKS)
    return outermost(
        chain(
            ((start, end, "") for start, end in chain(_struck(text, brackets=brackets), _struck_letters(text))),
            ((mark.start(), mark.end(), "\n" if mark["block"] else "") for mark in marks),
        )
    )


def brackets_strike(text: str) -> bool:
    """Whether the text itself says that matter in brackets is omitted: the line of explanation that bills have."""
    return any(_explains(text, match) for match in islice(_BRACKET.finditer(text), _MOST_BRACKETS))


def _explains(text: str, bracket: re.Match[str]) -> bool:
    before = re.split(r"[.;]|\n[ \t]*\n", text[max(0, bracket.start() - _SENTENCE_REACH) : bracket.start()])[-1]
    after = re.split(r"[.;]|\n[ \t]*\n", text[bracket.end() : bracket.end() + _SENTENCE_REACH], maxsplit=1)[0]
    sentence = f"{before}{bracket[0]}{after}"
    clause = f"{before.rpartition(',')[2]}{bracket[0]}{after.partition(',')[0]}"
    if _OTHER_BRACKETS.search(before) or not _ABOUT_TEXT.search(sentence) or not _OMITTED.search(sentence):
        return False
    if not _ADDED.search(sentence):
        return True
    at = clause.index(bracket[0])
    return _distance(_OMITTED, clause, at) < _distance(_ADDED, clause, at)


def _distance(words: re.Pattern[str], clause: str, at: int) -> float:
    return min((abs(match.start() - at) for match in words.finditer(clause)), default=float("inf"))


def _struck_letters(text: str) -> Iterator[tuple[int, int]]:
    """Letters with a line through them, and the blanks between."""
    for match in _STRUCK_LETTER.finditer(text):
        yield max(0, match.start() - 1), match.end()


def _struck(text: str, *, brackets: bool) -> Iterator[tuple[int, int]]:
    """From each mark that opens to the one that closes it; a mark without its other half strikes nothing."""
    kinds = (_TAG, _TILDES, _WORDS, _BRACKETS) if brackets else (_TAG, _TILDES, _WORDS)
    opened: dict[str, list[tuple[int, bool]]] = {}
    for match in merge(*(kind.finditer(text) for kind in kinds), key=re.Match[str].start):
        kind, opens, strikes = _kind(match, opened)
        waiting = opened.setdefault(kind, [])
        if opens:
            waiting.append((match.start(), strikes))
            continue
        start, strikes = waiting.pop() if waiting else (0, False)
        if strikes and kind == "~~" and _BLANK_LINE.search(text, start, match.start()):
            waiting.append((match.start(), True))
        elif strikes:
            yield start, match.end()


def _kind(match: re.Match[str], opened: dict[str, list[tuple[int, bool]]]) -> tuple[str, bool, bool]:
    """Which marks belong together, whether this one opens, and whether it strikes."""
    if match.re is _TAG:
        name = match["name"].lower()
        return name, not match["end"], name != "span" or "line-through" in match["more"].lower()
    if match.re is _TILDES:
        return "~~", not opened.get("~~"), True
    if match.re is _WORDS:
        return "words", match["edge"].lower() == "begin", True
    return "[]", match[0] == "[", True
