"""z.ai's web search: `POST /api/paas/v4/web_search`. Source: https://docs.z.ai/api-reference/tools/web-search"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from llm_common.testing.checks import a_count, a_text, one_of, refuse_unless
from llm_common.testing.wire import ChatRequest, Json, SearchRequest

__all__ = ["parse_search", "render_search", "search_of_chat"]

_ENGINES: Final = frozenset({"search-prime"})
_RECENCIES: Final = frozenset({"oneDay", "oneWeek", "oneMonth", "oneYear", "noLimit"})
_DEFAULT_COUNT: Final = 10
_MAX_COUNT: Final = 50
_ID_LENGTHS: Final = range(6, 65)


def parse_search(body: Json) -> SearchRequest:
    """The search that `body` asks for; raises `Refusal` where the service would not take it."""
    query = a_text(body, "search_query")
    one_of(a_text(body, "search_engine"), _ENGINES, "search_engine")
    count = a_count(body, "count", low=1, high=_MAX_COUNT)
    domain = a_text(body, "search_domain_filter") if body.get("search_domain_filter") else None
    recency = body.get("search_recency_filter", "noLimit")
    one_of(recency, _RECENCIES, "search_recency_filter")
    for name in ("request_id", "user_id"):
        value: Any = body.get(name)
        refuse_unless(
            value is None or (isinstance(value, str) and len(value) in _ID_LENGTHS),
            f"Invalid '{name}': expected a string of 6 to 64 characters.",
            parameter=name,
        )
    return SearchRequest(query=query, count=count or _DEFAULT_COUNT, domain=domain, recency=recency, raw=body)


def search_of_chat(request: ChatRequest) -> SearchRequest | None:
    """The search that a chat does by itself, where it carries z.ai's `web_search` tool; None without it."""
    for tool in request.tools:
        options: Mapping[str, Any] = tool.get("web_search") or {}
        if request.provider == "zai" and tool.get("type") == "web_search" and options.get("enable", True):
            query = str(options.get("search_query") or request.last_user_text)
            return SearchRequest(query=query, count=int(options.get("count", _DEFAULT_COUNT)), raw=options)
    return None


def render_search(results: Sequence[Mapping[str, Any]], number: int) -> Json:
    return {
        "id": f"2026112100{number:012d}",
        "created": int(time.time()),
        "search_result": [dict(result) for result in results],
    }
