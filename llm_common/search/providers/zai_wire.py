"""z.ai's web search in both directions, without the network. Pure.

Source: https://docs.z.ai/api-reference/tools/web-search and https://docs.z.ai/api-reference/api-code
"""

from collections.abc import Mapping
from decimal import Decimal
from http import HTTPStatus
from typing import Final

from llm_common.exceptions import SearchError
from llm_common.search.filters import Abilities
from llm_common.search.providers.http import Outgoing
from llm_common.search.providers.parsing import Fields, Service, fields_at, read_hits, read_object, refusal, value_at
from llm_common.search.providers.protocol import ProviderAnswer
from llm_common.search.query import Recency, SearchRequest
from llm_common.search.result import SearchResult

__all__ = ["ZaiWire"]

_RECENCY: Final[Mapping[Recency, str]] = {"1d": "oneDay", "1w": "oneWeek", "1m": "oneMonth", "1y": "oneYear"}
#: The balance (1113, which arrives as HTTP 429) or a quota window (1304, 1308, 1310) is used up.
_QUOTA_CODES: Final = frozenset({"1113", "1304", "1308", "1310"})
_RATE_CODES: Final = frozenset({"1302", "1303", "1305"})


class ZaiWire:
    """`POST /web_search`. One plain domain to a request."""

    service = Service(
        name="zai",
        label="z.ai",
        quota_advice="The balance or quota is used up: top it up, or check that the key belongs to this base URL "
        "(a coding-plan key answers 1113 elsewhere).",
        key_advice="z.ai refused the key: check ZAI_API_KEY (or Z_AI_API_KEY), or the api_key argument.",
    )
    engine = "search-prime"
    abilities = Abilities(domains="one", recency=True)
    #: About a cent a search. Source: https://docs.z.ai/guides/overview/pricing
    price_usd = Decimal("0.01")
    path = "/web_search"

    def headers(self, api_key: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {api_key}"}

    def render(self, request: SearchRequest) -> Outgoing:
        body: Fields = {"search_query": request.text, "search_engine": self.engine, "count": request.count}
        if request.domains:
            (body["search_domain_filter"],) = request.domains
        if request.recency:
            body["search_recency_filter"] = _RECENCY[request.recency]
        return Outgoing("POST", body=body)

    def parse(self, raw: bytes) -> ProviderAnswer:
        body = read_object(raw, self.service)
        if "error" in body:
            raise self.refusal(HTTPStatus.OK, raw, {})
        return read_hits(body.get("search_result"), "search_result", self.service, _result)

    def refusal(self, status: int, raw: bytes, headers: Mapping[str, str]) -> SearchError:
        # Two shapes: `{"error": {"code", "message"}}`, and a gateway's own `{"error": text}`, or a page.
        error = fields_at(raw, "error")
        code = error.get("code")
        return refusal(
            self.service,
            status,
            headers=headers,
            code=code,
            message=error.get("message") or value_at(raw, "error"),
            is_quota=str(code) in _QUOTA_CODES,
            is_busy=str(code) in _RATE_CODES,
        )


def _result(fields: Fields) -> SearchResult:
    # The provider leaves out, nulls or empties what it does not know.
    return SearchResult(
        title=fields.get("title") or "",
        url=fields.get("link") or "",
        snippet=fields.get("content") or "",
        published_date=fields.get("publish_date") or None,
    )
