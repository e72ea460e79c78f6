"""What is searched for: checked, brought to one form, and named by its cache key. Pure."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from llm_common.exceptions import InvalidQueryError
from llm_common.search.markup import is_blank
from llm_common.search.urls import ascii_domain, host_of

__all__ = ["MAX_COUNT", "MAX_QUERY_CHARS", "Query", "Recency", "SearchRequest", "cache_key", "fold", "parse_query"]

Recency = Literal["1d", "1w", "1m", "1y"]

MAX_COUNT = 50
#: Longer than any search engine reads.
MAX_QUERY_CHARS = 2_000
_MAX_DOMAINS = 50
#: Part of every key: raise it when the meaning of a key or the shape of an entry changes.
_KEY_VERSION = 1
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_MAX_DOMAIN_CHARS = 253


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One request to a provider, and the unit of caching. `domains` are plain, sorted, and filtered by the provider."""

    text: str
    count: int = 10
    domains: tuple[str, ...] = ()
    recency: Recency | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """What a host asked for. `wildcards` are suffixes without the star: `*.gov` is `gov`."""

    text: str
    count: int
    domains: tuple[str, ...]
    wildcards: tuple[str, ...]
    recency: Recency | None


def parse_query(
    text: str, count: int = 10, domains: Sequence[str] | str | None = None, recency: str | None = None
) -> Query:
    """Check and normalise. Raises `InvalidQueryError`, which says what to pass instead."""
    names = [] if domains is None else [domains] if isinstance(domains, str) else list(domains)
    if len(names) > _MAX_DOMAINS:
        raise InvalidQueryError(f"{len(names)} domains are too many; pass at most {_MAX_DOMAINS}")
    checked = {_domain(name) for name in names}
    return Query(
        text=_text(text),
        count=_count(count),
        domains=tuple(sorted(name for name in checked if not name.startswith("*."))),
        wildcards=tuple(sorted(name.removeprefix("*.") for name in checked if name.startswith("*."))),
        recency=_recency(recency),
    )


def fold(text: str) -> str:
    """The text that equivalent queries share: Unicode's compatibility caseless match, single spaces.

    Source: The Unicode Standard, section 3.13, D146. Folding a folded text changes nothing.
    """
    once = unicodedata.normalize("NFKD", unicodedata.normalize("NFD", text).casefold())
    twice = unicodedata.normalize("NFKD", once.casefold())
    return " ".join(unicodedata.normalize("NFKC", twice).split())


def cache_key(request: SearchRequest, provider_identity: str) -> str:
    """`v1:` and the SHA-256 of everything that an answer depends on, so that different requests never share one."""
    meaning = [provider_identity, fold(request.text), request.count, sorted(request.domains), request.recency]
    canonical = json.dumps(meaning, ensure_ascii=True, separators=(",", ":"))
    return f"v{_KEY_VERSION}:{hashlib.sha256(canonical.encode()).hexdigest()}"


def _text(text: object) -> str:
    if not isinstance(text, str):
        raise InvalidQueryError(f"the query must be text, not {type(text).__name__}")
    if len(text) > MAX_QUERY_CHARS:
        raise InvalidQueryError(f"the query has {len(text)} characters; shorten it to {MAX_QUERY_CHARS} or fewer")
    if any(unicodedata.category(character) in {"Cs", "Cc"} and not character.isspace() for character in text):
        raise InvalidQueryError("the query has control characters in it; remove them")
    words = " ".join(text.split())
    if is_blank(words) or not fold(words):
        raise InvalidQueryError("the query is empty; say what to search for")
    return words


def _count(count: object) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_COUNT:
        raise InvalidQueryError(f"count must be a whole number from 1 to {MAX_COUNT}, not {count!r:.40}")
    return count


def _recency(recency: str | None) -> Recency | None:
    if recency is None:
        return None
    for known in get_args(Recency):
        if recency == known:
            return known
    raise InvalidQueryError(f"recency {recency!r:.40} is unknown; use 1d, 1w, 1m, 1y, or None for any time")


def _domain(given: object) -> str:
    """A plain domain (`irs.gov`) or a wildcard (`*.gov`), in lower case and IDNA form."""
    if not isinstance(given, str):
        raise InvalidQueryError(f"a domain must be text such as 'irs.gov', not {type(given).__name__}")
    plain = given.removeprefix("*.")
    try:
        name = ascii_domain(plain)
    except ValueError:
        name = ""
    if not _is_domain(name, wildcard=plain != given):
        raise InvalidQueryError(f"domain {given!r:.100} is not a domain name{_suggestion(given)}")
    return name if plain == given else f"*.{name}"


def _is_domain(name: str, *, wildcard: bool) -> bool:
    labels = name.split(".")
    enough = len(labels) > 1 or wildcard
    return enough and len(name) <= _MAX_DOMAIN_CHARS and all(_LABEL.fullmatch(label) for label in labels)


def _suggestion(given: str) -> str:
    """What was probably meant: the host of an address, without port and spaces."""
    address = given.strip()
    star = "*." if address.startswith("*.") else ""
    host = host_of(address if "://" in address else f"//{address.removeprefix('*.').split(' ')[0]}")
    if _is_domain(host, wildcard=bool(star)):
        return f"; use {star + host!r}"
    return "; use the plain form 'irs.gov' or a wildcard '*.gov'"
