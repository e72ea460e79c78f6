"""What printing adds to a text and no reader quotes: numbers of lines, headers and footers of pages. Pure, linear."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

__all__ = ["furniture_spans"]

_LINE: Final = re.compile(r"[^\n\f]+")
#: `12   text`, `3.12  text` (page and line), or a numbered empty line; what has a dot or parenthesis is a list.
_LINE_NUMBER: Final = re.compile(r"[ \t]*(?:\d{1,3}\.)?(\d{1,4})(?:[ \t]+(?=\S)|[ \t\r]*\Z)")
_DIGITS: Final = re.compile(r"\d+")
_PROSE: Final = re.compile(r"\b[a-z]{4,}\b")

#: Between the last line of a page and the first of the next are at most so many lines of headers and footers.
_PAGE_BREAK_LINES: Final = 6
_HEADER_CHARACTERS: Final = 100
#: A line that comes again after fewer lines than these is part of a list.
_LEAST_PAGE_LINES: Final = 3
_PROSE_WORDS: Final = 2
#: So often a line comes again that is a header; once less, where it has a page number or a page break before it.
_SURE: Final = 3


@dataclass(frozen=True, slots=True)
class _Line:
    start: int
    end: int
    text: str
    after_break: bool


def furniture_spans(text: str) -> list[tuple[int, int]]:
    """Line numbers with the blanks around them, and whole lines of headers and footers; in order, as offsets."""
    lines = [line for line in _lines(text) if line.text.strip()]
    return sorted({*_numbering(lines), *_repeated(lines)})


def _lines(text: str) -> Iterator[_Line]:
    done = 0
    for match in _LINE.finditer(text):
        yield _Line(match.start(), min(match.end() + 1, len(text)), match[0], "\f" in text[done : match.start()])
        done = match.end()


def _numbering(lines: Sequence[_Line]) -> Iterator[tuple[int, int]]:
    """Numbers that count up line by line, from 1 and anew on each page; and what stands between two pages."""
    run: list[tuple[int, int]] = []
    between: list[_Line] = []
    last, counts = 0, False
    for line in lines:
        match = _LINE_NUMBER.match(line.text)
        number = int(match[1]) if match else None
        if match is None or number not in (1, last + 1):
            between.append(line)
            if len(between) > _PAGE_BREAK_LINES:
                yield from run if counts else ()
                run, last, counts = [], 0, False
            continue
        if number == 1 and last > 1 and all(map(_like_a_header, between)):
            run += ((furniture.start, furniture.end) for furniture in between)
        run.append((line.start, line.start + match.end()))
        between, last, counts = [], number, counts or number > 1
    yield from run if counts else ()


def _repeated(lines: Sequence[_Line]) -> Iterator[tuple[int, int]]:
    """Lines that come again on other pages, the same but for a page number that counts up."""
    groups: dict[str, list[int]] = {}
    for place, line in enumerate(lines):
        if len(line.text.strip()) <= _HEADER_CHARACTERS:
            groups.setdefault(_DIGITS.sub("#", " ".join(line.text.split())), []).append(place)
    for pattern, places in groups.items():
        found = [lines[place] for place in places]
        apart = all(second - first > _LEAST_PAGE_LINES for first, second in pairwise(places))
        numbered = "#" in pattern and _like_a_header(found[0])
        enough = _SURE if not (numbered or found[-1].after_break) else _SURE - 1
        if len(places) >= enough and apart and not pattern.endswith((";", ",", ":")) and _count_up(found):
            yield from ((line.start, line.end) for line in found)


def _count_up(lines: Sequence[_Line]) -> bool:
    """Whether at most one number differs from line to line, and grows."""
    columns = list(zip(*(map(int, _DIGITS.findall(line.text)) for line in lines), strict=True))
    differing = [column for column in columns if len(set(column)) > 1]
    return not differing or (len(differing) == 1 and all(a < b for a, b in pairwise(differing[0])))


def _like_a_header(line: _Line) -> bool:
    """Short, and no sentence."""
    return len(line.text.strip()) <= _HEADER_CHARACTERS and len(_PROSE.findall(line.text)) <= _PROSE_WORDS
