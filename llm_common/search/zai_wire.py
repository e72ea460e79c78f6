"""z.ai's web search in both directions, without the network. Pure.

Source: https://docs.z.ai/api-reference/tools/web-search and https://docs.z.ai/api-reference/api-code
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, cast

from pydantic import ValidationError

from llm_common.exceptions import SearchError, SearchQuotaError
from llm_common.search.provider import ProviderAnswer
from llm_common.search.query import Recency, SearchRequest
from llm_common.search.result import SearchResult

__all__ = ["ENGINE", "parse_answer", "refusal", "render_request", "seconds_until"]

ENGINE = "search-prime"
_RECENCY: Mapping[Recency, str] = {"1d": "oneDay", "1w": "oneWeek", "1m": "oneMonth", "1y": "oneYear"}
#: The balance (1113, which arrives as HTTP 429) or a quota window (1304, 1308, 1310) is used up.
_QUOTA_CODES = frozenset({"1113", "1304", "1308", "1310"})
_RATE_CODES = frozenset({"1302", "1303", "1305"})
_REDIRECTS = range(300, 400)


def render_request(request: SearchRequest) -> dict[str, str | int]:
    """The JSON body. z.ai takes one plain domain as text."""
    body: dict[str, str | int] = {"search_query": request.text, "search_engine": ENGINE, "count": request.count}
    if request.domains:
        (body["search_domain_filter"],) = request.domains
    if request.recency:
        body["search_recency_filter"] = _RECENCY[request.recency]
    return body


def parse_answer(raw: bytes) -> ProviderAnswer:
    """The hits in a body that came with status 200. Raises `SearchError` for anything that is not a list of hits."""
    body = _object(raw)
    if "error" in body:
        raise refusal(HTTPStatus.OK, raw, None)
    found: object = body.get("search_result")
    if not isinstance(found, list):
        raise SearchError(
            f"z.ai's answer has no list search_result, but {type(found).__name__}; nothing is cached. "
            "Try again; if it stays, the wire format has changed.",
            provider="zai",
            status=200,
        )
    items = cast("list[object]", found)
    results: list[SearchResult] = []
    for item in items:
        if isinstance(item, dict):
            with suppress(ValidationError):  # counted as skipped
                results.append(_result(cast("dict[str, Any]", item)))
    if items and not results:
        raise SearchError(
            f"z.ai's answer has {len(items)} items, and none can be read; nothing is cached.",
            provider="zai",
            status=200,
        )
    return ProviderAnswer(tuple(results), skipped=len(items) - len(results))


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body: object = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise SearchError(
            f"z.ai's answer of {len(raw)} bytes is not JSON; nothing is cached. Try again, and check the base URL.",
            provider="zai",
            status=200,
            retryable=True,
        ) from error
    if not isinstance(body, dict):
        raise SearchError(f"z.ai's answer is a JSON {type(body).__name__}, not an object", provider="zai", status=200)
    return cast("dict[str, Any]", body)


def _result(fields: dict[str, Any]) -> SearchResult:
    # The provider leaves out, nulls or empties what it does not know.
    return SearchResult(
        title=fields.get("title") or "",
        url=fields.get("link") or "",
        snippet=fields.get("content") or "",
        published_date=fields.get("publish_date") or None,
    )


def refusal(status: int, raw: bytes, retry_after: str | None) -> SearchError:
    """The error for an answer that says no. Its text carries z.ai's own code and message, never the query."""
    code, message = _code_and_message(raw)
    text = f"z.ai answered {status}{f' (code {code})' if code else ''}{f': {message}' if message else ''}"
    wait = seconds_until(retry_after, datetime.now(UTC))
    if code in _QUOTA_CODES:
        return SearchQuotaError(
            f"{text}. The balance or quota is used up: top it up, or check that the key belongs to this base URL "
            "(a coding-plan key answers 1113 elsewhere).",
            provider="zai",
            status=status,
            code=code,
        )
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return SearchError(
            f"{text}. z.ai refused the key: check ZAI_API_KEY (or Z_AI_API_KEY), or the api_key argument.",
            provider="zai",
            status=status,
            code=code,
        )
    if status in _REDIRECTS:
        text += ". Redirects are not followed, so that the key stays where it belongs: check the base URL."
    retryable = code in _RATE_CODES or status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT}
    retryable = retryable or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return SearchError(text, provider="zai", status=status, code=code, retry_after=wait, retryable=retryable)


def _code_and_message(raw: bytes) -> tuple[str | None, str]:
    """Both of z.ai's shapes: `{"error": {"code", "message"}}`, and a gateway's own `{"error": text}` or page."""
    try:
        body: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return None, ""
    error: Any = cast("dict[str, Any]", body).get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return None, error[:200] if isinstance(error, str) else ""
    details = cast("dict[str, Any]", error)
    code, message = details.get("code"), details.get("message")
    return str(code)[:20] if isinstance(code, (str, int)) else None, message[:200] if isinstance(message, str) else ""


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
