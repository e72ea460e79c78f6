"""Where in an answer's text its JSON document is: alone, behind thoughts, in a code fence, or between words. Pure.

A document is found, never repaired. Where several could be meant, the last is the answer: what stands before it is an
example, or a first try.
"""

import json
import re
from collections.abc import Iterator

__all__ = ["documents", "growing_document"]

_THOUGHT = re.compile(r"</(?:think|thinking|reasoning|thought)>")
#: A fence opens at the end of a line and closes at the beginning of one. No text in JSON has a line break in it, so
#: none has a fence there.
_OPENS = re.compile(r"`{3,}[ \t]*\w*[ \t]*$", re.MULTILINE)
_CLOSES = re.compile(r"^[ \t]*`{3,}", re.MULTILINE)
#: How many braces are tried between words: prose has few, and each may take a look at all that follows.
_MOST_STARTS = 200
_START = re.compile(r"[{\[]")
_decoder = json.JSONDecoder()


def documents(text: str) -> Iterator[str]:
    """The documents that a text may have been meant to be, the likeliest first."""
    yield text.strip()
    said = _without_thoughts(text)
    if said != text:
        yield said.strip()
    yield from reversed(list(_fenced(said)))
    yield from reversed(list(_between_words(said)))


def growing_document(text: str) -> str:
    """What has come of the document of an answer that is still growing; empty before its first brace."""
    said = _without_thoughts(text).lstrip()
    if said.startswith("{"):
        return said
    blocks = [block.lstrip() for block in _fenced(said)]
    return next((block for block in reversed(blocks) if block.startswith("{")), "")


def _without_thoughts(text: str) -> str:
    """What follows the end of the thoughts that some models put before their answer."""
    ends = [found.end() for found in _THOUGHT.finditer(text)]
    return text[ends[-1] :] if ends else text


def _fenced(text: str) -> Iterator[str]:
    """What stands in code fences; the last one may lack its end."""
    position = 0
    while opening := _OPENS.search(text, position):
        closing = _CLOSES.search(text, opening.end())
        yield text[opening.end() : closing.start() if closing else len(text)].strip()
        if closing is None:
            return
        position = closing.end()


def _between_words(text: str) -> Iterator[str]:
    position = 0
    for _ in range(_MOST_STARTS):
        start = _START.search(text, position)
        if start is None:
            return
        try:
            _, position = _decoder.raw_decode(text, start.start())
            yield text[start.start() : position]
        except (ValueError, RecursionError):
            position = start.end()
