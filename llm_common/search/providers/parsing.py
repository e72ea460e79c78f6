"""What the answers of search services have in common: JSON that may be no JSON, hits that may be no hits, refusals.

Nothing of the key or the query that a service repeats gets into an error. Errors are returned, not raised: a traceback
would keep the answer in its frames. Pure.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import quote, quote_plus

from pydantic import ValidationError

from llm_common._text.redaction import presentable
from llm_common._text.retry_after import retry_after
from llm_common.exceptions import SearchError, SearchQuotaError
from llm_common.search.markup import without_markup
from llm_common.search.providers.facts import Fields, HitFields, ProviderFacts, Refusal
from llm_common.search.providers.protocol import ProviderAnswer
from llm_common.search.result import SearchResult

__all__ = ["Exchange", "read_answer", "read_refusal"]

_KEY_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_MAY_PASS: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT})
_MAX_CODE_CHARS: Final = 40
#: A shorter query stands in too many words to be looked for.
_SHORTEST_ECHO: Final = 3
_NO_JSON: Final = object()


@dataclass(frozen=True, slots=True)
class Exchange:
    """One answer of a service: who gave it, and what must not be repeated of what was sent."""

    facts: ProviderFacts
    secrets: Sequence[str] = ()
    query: str = ""

    def without_secrets(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "[redacted]")
        return text

    def shown(self, message: str) -> str:
        """A message as an error may carry it: without key and query, however they are spelled there."""
        sent = [*self.secrets, *([self.query] if len(self.query) >= _SHORTEST_ECHO else [])]
        spelled = {form for text in sent for form in (text, quote(text), quote(text, safe=""), quote_plus(text))}
        if spelled:
            longest_first = sorted(map(re.escape, spelled), key=len, reverse=True)
            message = re.sub("|".join(longest_first), "[redacted]", message, flags=re.IGNORECASE)
        return presentable(message, sent=self.query)

    def error(self, what: str, *, retryable: bool = False, status: int = HTTPStatus.OK) -> SearchError:
        return SearchError(
            f"{self.facts.label}'s answer {what}", provider=self.facts.name, status=status, retryable=retryable
        )


def read_answer(exchange: Exchange, raw: bytes) -> ProviderAnswer | SearchError:
    """The hits in a body that came with status 200; items that cannot be read are counted.

    A `SearchError` for what is no answer: no JSON, no list of hits, none that can be read, or a refusal.
    """
    body = _json(raw)
    if body is _NO_JSON:
        return exchange.error(
            f"of {len(raw)} bytes is not JSON; nothing is cached. Try again, and check the base URL.", retryable=True
        )
    if not isinstance(body, dict):
        return exchange.error(f"is a JSON {type(body).__name__}, not an object")
    found = exchange.facts.hits(cast("Fields", body))
    if isinstance(found, Refusal):
        return _refused(exchange, HTTPStatus.OK, {}, found)
    if not isinstance(found, list):
        return exchange.error(
            f"has no list of hits, but {type(found).__name__}; nothing is cached. "
            "Try again; if it stays, the wire format has changed."
        )
    items = cast("list[object]", found)
    results = [hit for item in items if (hit := _hit(item, exchange.facts.fields, exchange.without_secrets))]
    if items and not results:
        return exchange.error(f"has {len(items)} items, and none can be read; nothing is cached.")
    return ProviderAnswer(tuple(results), skipped=len(items) - len(results))


def read_refusal(exchange: Exchange, status: int, headers: Mapping[str, str], raw: bytes) -> SearchError:
    """What an answer with another status means. Its text carries the service's own code and message."""
    body = _json(raw)
    return _refused(exchange, status, headers, exchange.facts.refusal(status, None if body is _NO_JSON else body))


def _refused(exchange: Exchange, status: int, headers: Mapping[str, str], refusal: Refusal) -> SearchError:
    facts, code, message = exchange.facts, refusal.code, refusal.message
    known = exchange.shown(str(code))[:_MAX_CODE_CHARS] if isinstance(code, (str, int)) and str(code) else None
    said = exchange.shown(message) if isinstance(message, str) else ""
    text = f"{facts.label} answered {status}{f' (code {known})' if known else ''}{f': {said}' if said else ''}"
    if refusal.kind == "quota":
        return SearchQuotaError(f"{text}. {facts.quota_advice}", provider=facts.name, status=status, code=known)
    if refusal.kind == "key" or status in _KEY_REFUSED:
        return SearchError(f"{text}. {facts.key_advice}", provider=facts.name, status=status, code=known)
    if status // 100 == HTTPStatus.MULTIPLE_CHOICES // 100:
        text += ". Redirects are not followed, so that the key stays where it belongs: check the base URL."
    retryable = refusal.kind == "busy" or status in _MAY_PASS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    wait = retry_after({name.lower(): value for name, value in headers.items()}, now=datetime.now(UTC))
    return SearchError(text, provider=facts.name, status=status, code=known, retry_after=wait, retryable=retryable)


def _json(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return _NO_JSON


def _hit(item: object, fields: HitFields, clean: Callable[[str], str]) -> SearchResult | None:
    """A field that is odd is left out, and costs the hit only where the hit would lead nowhere."""
    if not isinstance(item, dict):
        return None
    known = cast("Fields", item)
    dates = (known.get(name) for name in fields.published)
    try:
        return SearchResult(
            title=clean(without_markup(_text(known.get(fields.title)))),
            url=clean(known[fields.url]) if isinstance(known.get(fields.url), str) else "",
            snippet=clean(without_markup(_text(known.get(fields.snippet)))),
            published_date=next((clean(text) for text in map(_text, dates) if text), None),
            relevance_score=_number(known.get(fields.score)),
        )
    except ValidationError:
        return None


def _text(value: object) -> str:
    if isinstance(value, list):
        return " … ".join(part for part in cast("list[Any]", value) if isinstance(part, str))
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    """A finite one. JSON in Python may hold NaN, and whole numbers that no float does."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if number - number == 0 else None
