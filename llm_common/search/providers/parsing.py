"""What the answers of search services have in common: JSON that may be no JSON, hits that may be no hits, refusals.

Each service's own wire is in a module of its own. Pure.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, cast

from pydantic import ValidationError

from llm_common.exceptions import SearchError, SearchQuotaError
from llm_common.search.providers.protocol import ProviderAnswer
from llm_common.search.result import SearchResult

__all__ = ["Fields", "Service", "fields_at", "read_hits", "read_object", "refusal", "seconds_until", "value_at"]

Fields = dict[str, Any]

_REDIRECTS: Final = range(300, 400)
_KEY_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_MAY_PASS: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT})
_MAX_MESSAGE_CHARS: Final = 200
_MAX_CODE_CHARS: Final = 40


@dataclass(frozen=True, slots=True)
class Service:
    """Whom an error is about. `name` is ours (`zai`), `label` its own (`z.ai`).

    `quota_advice` and `key_advice` are whole sentences: what to do when nothing is left, and when the key is refused.
    """

    name: str
    label: str
    quota_advice: str
    key_advice: str


def read_object(raw: bytes, service: Service) -> Fields:
    """The JSON object of a body that came with status 200. Raises `SearchError` where it is none."""
    try:
        body: object = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise SearchError(
            f"{service.label}'s answer of {len(raw)} bytes is not JSON; nothing is cached. "
            "Try again, and check the base URL.",
            provider=service.name,
            status=200,
            retryable=True,
        ) from error
    if not isinstance(body, dict):
        raise SearchError(
            f"{service.label}'s answer is a JSON {type(body).__name__}, not an object",
            provider=service.name,
            status=200,
        )
    return cast("Fields", body)


def value_at(raw: bytes, *names: str) -> object:
    """What stands below `names` in a body that may be anything; None where there is no such thing."""
    try:
        value: object = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    for name in names:
        value = cast("Fields", value).get(name) if isinstance(value, dict) else None
    return value


def fields_at(raw: bytes, *names: str) -> Fields:
    """The same for an object; an empty one where there is none."""
    value = value_at(raw, *names)
    return cast("Fields", value) if isinstance(value, dict) else {}


def read_hits(
    found: object, field: str, service: Service, to_result: Callable[[Fields], SearchResult]
) -> ProviderAnswer:
    """The hits in the list `found`, which the service calls `field`; items that cannot be read are counted.

    Raises `SearchError` where it is no list, and where none of its items can be read.
    """
    if not isinstance(found, list):
        raise SearchError(
            f"{service.label}'s answer has no list {field}, but {type(found).__name__}; nothing is cached. "
            "Try again; if it stays, the wire format has changed.",
            provider=service.name,
            status=200,
        )
    items = cast("list[object]", found)
    results: list[SearchResult] = []
    for item in items:
        if isinstance(item, dict):
            with suppress(ValidationError):  # counted as skipped
                results.append(to_result(cast("Fields", item)))
    if items and not results:
        raise SearchError(
            f"{service.label}'s answer has {len(items)} items, and none can be read; nothing is cached.",
            provider=service.name,
            status=200,
        )
    return ProviderAnswer(tuple(results), skipped=len(items) - len(results))


def refusal(
    service: Service,
    status: int,
    *,
    headers: Mapping[str, str],
    code: object = None,
    message: object = None,
    is_quota: bool = False,
    is_busy: bool = False,
    is_key: bool = False,
) -> SearchError:
    """The error for an answer that says no. Its text carries the service's own code and message, never the query.

    `is_quota`: the account has nothing left. `is_busy`: asking again shortly may help, whatever the status.
    `is_key`: the key was refused, whatever the status.
    """
    known = str(code)[:_MAX_CODE_CHARS] if isinstance(code, (str, int)) and str(code) else None
    said = message[:_MAX_MESSAGE_CHARS] if isinstance(message, str) else ""
    text = f"{service.label} answered {status}{f' (code {known})' if known else ''}{f': {said}' if said else ''}"
    if is_quota:
        return SearchQuotaError(f"{text}. {service.quota_advice}", provider=service.name, status=status, code=known)
    if is_key or status in _KEY_REFUSED:
        return SearchError(f"{text}. {service.key_advice}", provider=service.name, status=status, code=known)
    if status in _REDIRECTS:
        text += ". Redirects are not followed, so that the key stays where it belongs: check the base URL."
    retryable = is_busy or status in _MAY_PASS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    wait = seconds_until(_header(headers, "Retry-After"), datetime.now(UTC))
    return SearchError(text, provider=service.name, status=status, code=known, retry_after=wait, retryable=retryable)


def _header(headers: Mapping[str, str], wanted: str) -> str | None:
    return next((value for name, value in headers.items() if name.lower() == wanted.lower()), None)


def seconds_until(retry_after: str | None, now: datetime) -> float | None:
    """A Retry-After header in seconds: a number, or an HTTP date (RFC 9110, section 10.2.3). None if unreadable."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after)) if retry_after.strip().isdecimal() else _until(retry_after, now)
    except (ValueError, OverflowError):
        return None


def _until(http_date: str, now: datetime) -> float:
    when = parsedate_to_datetime(http_date)
    return max(0.0, (when.replace(tzinfo=UTC) if when.tzinfo is None else when).timestamp() - now.timestamp())
