"""Tavily's search. Source: https://docs.tavily.com/documentation/api-reference/endpoint/search"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from llm_common.exceptions import SearchError
from llm_common.search.filters import Abilities
from llm_common.search.providers.http import HttpProvider, Outgoing
from llm_common.search.providers.parsing import Fields, Service, fields_at, read_hits, read_object, refusal, value_at
from llm_common.search.providers.protocol import ProviderAnswer
from llm_common.search.query import Recency, SearchRequest
from llm_common.search.result import SearchResult

__all__ = ["DEFAULT_URL", "TavilyProvider", "TavilyWire"]

DEFAULT_URL: Final = "https://api.tavily.com"
_TIME_RANGE: Final[Mapping[Recency, str]] = {"1d": "day", "1w": "week", "1m": "month", "1y": "year"}
#: The plan's limit and the pay-as-you-go limit, as statuses of Tavily's own.
_QUOTA_STATUSES: Final = frozenset({432, 433})


class TavilyWire:
    """`POST /search`, basic depth: one credit. At most 20 results; up to 300 domains to a request."""

    service = Service(
        name="tavily",
        label="Tavily",
        quota_advice="The plan's credits are used up: raise its limit at app.tavily.com, or wait for next month.",
        key_advice="Tavily refused the key: check TAVILY_API_KEY, or the api_key argument.",
    )
    engine = "basic"
    abilities = Abilities(domains="many", recency=True, max_count=20)
    #: A credit, pay as you go. Source: https://docs.tavily.com/documentation/api-credits
    price_usd = Decimal("0.008")
    path = "/search"

    def headers(self, api_key: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {api_key}"}

    def render(self, request: SearchRequest) -> Outgoing:
        body: Fields = {"query": request.text, "search_depth": self.engine, "max_results": request.count}
        if request.domains:
            body["include_domains"] = list(request.domains)
        if request.recency:
            body["time_range"] = _TIME_RANGE[request.recency]
        return Outgoing("POST", body=body)

    def parse(self, raw: bytes) -> ProviderAnswer:
        return read_hits(read_object(raw, self.service).get("results"), "results", self.service, _result)

    def refusal(self, status: int, raw: bytes, headers: Mapping[str, str]) -> SearchError:
        # `{"detail": {"error": text}}`, and `{"detail": text}` or a list where the request is malformed.
        message = fields_at(raw, "detail").get("error") or value_at(raw, "detail")
        return refusal(self.service, status, headers=headers, message=message, is_quota=status in _QUOTA_STATUSES)


class TavilyProvider(HttpProvider):
    """`base_url` is what precedes `/search`."""

    def __init__(self, api_key: str, base_url: str = DEFAULT_URL) -> None:
        super().__init__(TavilyWire(), api_key, base_url, default_url=DEFAULT_URL)


def _result(fields: Fields) -> SearchResult:
    return SearchResult(
        title=fields.get("title") or "",
        url=fields.get("url") or "",
        snippet=fields.get("content") or "",
        published_date=fields.get("published_date") or None,
        relevance_score=fields.get("score"),
    )
