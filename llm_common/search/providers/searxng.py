"""SearXNG, a metasearch engine to host oneself. Source: https://docs.searxng.org/dev/search_api.html"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from llm_common.exceptions import SearchError
from llm_common.search.filters import Abilities
from llm_common.search.providers.http import HttpProvider, Outgoing
from llm_common.search.providers.parsing import Fields, Service, read_hits, read_object, refusal, value_at
from llm_common.search.providers.protocol import ProviderAnswer
from llm_common.search.query import Recency, SearchRequest
from llm_common.search.result import SearchResult

__all__ = ["SearxngProvider", "SearxngWire"]

_TIME_RANGE: Final[Mapping[Recency, str]] = {"1d": "day", "1w": "week", "1m": "month", "1y": "year"}


class SearxngWire:
    """`GET /search?format=json`: one page, as long as the instance makes it. It costs nothing.

    An instance whose engines do not answer says "no results" all the same, and lists them as unresponsive: that is a
    failure, not an answer.
    """

    service = Service(
        name="searxng",
        label="SearXNG",
        quota_advice="",
        key_advice="The instance refuses JSON: add json to search.formats in its settings.yml.",
    )
    engine = "meta"
    abilities = Abilities(domains="none", recency=True)
    price_usd = Decimal(0)
    path = "/search"

    def headers(self, api_key: str) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {api_key}"} if api_key else {}

    def render(self, request: SearchRequest) -> Outgoing:
        params = {"q": request.text, "format": "json"}
        if request.recency:
            params["time_range"] = _TIME_RANGE[request.recency]
        return Outgoing("GET", params=params)

    def parse(self, raw: bytes) -> ProviderAnswer:
        body = read_object(raw, self.service)
        answer = read_hits(body.get("results"), "results", self.service, _result)
        if not answer.results and body.get("unresponsive_engines"):
            raise SearchError(
                "SearXNG's engines did not answer, so whether there are hits is not known; nothing is cached. "
                "Try again, or look at the instance's statistics.",
                provider=self.service.name,
                status=200,
                retryable=True,
            )
        return answer

    def refusal(self, status: int, raw: bytes, headers: Mapping[str, str]) -> SearchError:
        return refusal(self.service, status, headers=headers, message=value_at(raw, "error"))


class SearxngProvider(HttpProvider):
    """`base_url` is the instance's address. A key is sent as a bearer token, for instances behind a gate."""

    def __init__(self, base_url: str, api_key: str = "") -> None:
        super().__init__(SearxngWire(), api_key, base_url, default_url=None)


def _result(fields: Fields) -> SearchResult:
    return SearchResult(
        title=fields.get("title") or "",
        url=fields.get("url") or "",
        snippet=fields.get("content") or "",
        published_date=fields.get("publishedDate") or None,
        relevance_score=fields.get("score"),
    )
