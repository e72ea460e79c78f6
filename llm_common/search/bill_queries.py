"""What to search for about a bill, read from its own text: 20 to 30 queries. Pure."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest

from llm_common._text.plain_text import check_plain_text
from llm_common.exceptions import InvalidInputError
from llm_common.search.markup import is_blank
from llm_common.search.query import fold

__all__ = ["MAX_QUERIES", "MIN_QUERIES", "bill_queries"]

MIN_QUERIES, MAX_QUERIES = 20, 30
#: z.ai's sister site reads no more of a query.
_MAX_CHARS = 70
_MAX_NAME_CHARS = 30
_MAX_TEXT_CHARS = 2_000_000

_BY_BILL = (
    "{bill} {place}",
    "{bill} {place} bill text",
    "{bill} fiscal note",
    "{bill} fiscal impact {place}",
    "{bill} committee analysis",
    "{bill} cost to households",
    "{bill} economic impact study",
    "{bill} support opposition arguments",
    "{bill} vote history status",
    "{bill} news {place}",
)
_BY_TOPIC = (
    "{topic} cost of living impact {place}",
    "{topic} economic impact study",
    "{topic} cost per household estimate",
    "{topic} statistics {place}",
    "{topic} similar law other states results",
    "{topic} government cost estimate",
    "{topic} effect on prices research",
    "{topic} effect on small business",
    "{topic} effect on low income families",
    "{topic} evaluation report",
    "{topic} legislation {place}",
    "{topic} budget {place}",
)

_SHORT_TITLE = re.compile(r"(?:cited|known)\s+as\s+(?:the\s+)?[\"“']?([A-Z][^\"”'.;\n]{4,80}?\b(?:Act|Law|Program)\b)")
_LONG_TITLE = re.compile(r"\bAn\s+act\s+(?:to|relating\s+to|concerning)\s+([^.;\n]{10,200})", re.IGNORECASE)
_HEADING = re.compile(
    r"^[ \t]*(?:SEC(?:TION)?\.?|§|Article|ARTICLE|Chapter|CHAPTER)\s*[\dIVX]+[A-Za-z0-9.-]*[.:)\s—-]+([^\n]{4,160})",
    re.MULTILINE,
)
_DEFINED = re.compile(r"[\"“]([A-Za-z][\w /-]{2,50})[\"”]\s+(?:means|includes|has the (?:same )?meaning)")
_AMOUNT = re.compile(
    r"\$\s?\d[\d,]*(?:\.\d+)?(?:\s?(?:million|billion|thousand))?(?:\s+(?:per|a)\s+\w+)?", re.IGNORECASE
)
_CAPITALS = r"[A-Z][\w'-]+(?:\s+(?:(?:and|of|for|the)\s+)*[A-Z][\w'-]+){0,4}"
_AGENCY = re.compile(
    rf"\b((?:State\s+)?(?:Department|Board|Office|Bureau|Division|Secretary|Commission)\s+(?:of|for|on)\s+{_CAPITALS}"
    rf"|{_CAPITALS}\s+(?:Agency|Commission|Authority|Board|Department|Administration))"
)
_CODE = re.compile(
    rf"\bSections?\s+[\d.]+[\w.-]*(?:\([a-z0-9]+\))*\s+of\s+the\s+({_CAPITALS}\s+Code)|"
    rf"\b({_CAPITALS}\s+Code)\s+(?:Section|§)|\b(\d+\s+U\.\s?S\.\s?C\.\s*(?:§+\s*)?\d+\w*)"
)
_WORD = re.compile(r"[a-z][a-z-]{3,}")
_NOT_TOPICS = frozenset(
    _WORD.findall(
        """
        shall section subdivision code this that with from such than under which been have other each their
        would amended amend added read means include including pursuant paragraph person persons state
        states public provided within before after upon made bill title chapter article division date year
        years january july following also only more must does when where there these those into follows
        enacted people legislature assembly senate effective commencing relating required require requires
        provide provides meaning defined definition apply applies notwithstanding subsection department
        """
    )
)


def bill_queries(bill_id: str, bill_text: str, jurisdiction: str | None = None) -> tuple[str, ...]:
    """Queries of at most 70 characters: about the bill, its topic, and what its text names.

    From the text come the short title, section headings, defined terms, amounts, agencies and cited codes, taken in
    turns. The same bill always gives the same queries. Raises `InvalidInputError` for a bill without words,
    and for one that is a web page, a PDF or the like: its tags would be searched for, and paid.
    """
    bill = _trimmed(_printable(bill_id), _MAX_NAME_CHARS)
    place = _trimmed(_printable(jurisdiction or ""), _MAX_NAME_CHARS)
    if is_blank(bill):
        raise InvalidInputError("bill_id is empty; pass the bill's number, such as 'SB 277'")
    check_plain_text(bill_text, f"the text of bill {bill!r:.60}")
    if len(bill_text) > _MAX_TEXT_CHARS:
        raise InvalidInputError(f"the bill's text has {len(bill_text)} characters; pass at most {_MAX_TEXT_CHARS}")
    topic = _topic(bill_text) or bill
    named = list(_from_text(bill_text, topic, place))
    by_bill = [template.format(bill=bill, place=place) for template in _BY_BILL]
    by_topic = [template.format(topic=topic, place=place) for template in _BY_TOPIC]
    # What only this bill's text can tell has its share; the general questions fill up what it leaves.
    room = MAX_QUERIES - len(by_bill)
    chosen = [*by_bill, *named[: room - 4], *by_topic]
    return tuple(_distinct(chosen))[:MAX_QUERIES]


def _topic(text: str) -> str:
    """What the bill is about: its short title, its long title, or the words that it repeats most."""
    if match := _SHORT_TITLE.search(text):
        return _trimmed(re.sub(r"\s+of\s+\d{4}$|\s+(?:Act|Law)$", "", " ".join(match[1].split())), 40)
    if match := _LONG_TITLE.search(text):
        about = re.split(r"\b(?:relating|related)\s+to\b", match[1], flags=re.IGNORECASE)[-1]
        return _trimmed(about.strip(" ,"), 40)
    words = Counter(word for word in _WORD.findall(text.lower()) if word not in _NOT_TOPICS)
    return " ".join(word for word, _ in words.most_common(4))


def _from_text(text: str, topic: str, place: str) -> Iterator[str]:
    """What the text names, a little of each kind in turns."""
    short = " ".join(topic.split()[:4])
    kinds = (
        (f"{heading}" for heading in _most_named(_HEADING, text)),
        (f"{agency} {short}" for agency in _most_named(_AGENCY, text)),
        (f"{code} {short}" for code in _most_named(_CODE, text)),
        (f"{term} {place} {short}" for term in _most_named(_DEFINED, text)),
        (f"{amount} {short} {place}" for amount in _most_named(_AMOUNT, text)),
    )
    return (query for query in chain.from_iterable(zip_longest(*kinds)) if query is not None)


def _most_named(pattern: re.Pattern[str], text: str, limit: int = 6) -> Iterable[str]:
    """What a pattern finds, most often first, then in the order of the text."""
    found = Counter(" ".join(next(filter(None, match.groups()), match[0]).split()) for match in pattern.finditer(text))
    return (name.strip(" .,;:") for name, _ in found.most_common(limit))


def _distinct(queries: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for query in queries:
        trimmed = _trimmed(_printable(query), _MAX_CHARS)
        if fold(trimmed) and fold(trimmed) not in seen:
            seen.add(fold(trimmed))
            yield trimmed


def _trimmed(text: str, limit: int) -> str:
    """Cut between words."""
    return text if len(text) <= limit else text[: limit + 1].rsplit(" ", 1)[0][:limit]


def _printable(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
