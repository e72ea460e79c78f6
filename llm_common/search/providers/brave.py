"""Brave's web search. Source: https://api-dashboard.search.brave.com/api-reference/web/search/get"""

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

__all__ = ["DEFAULT_URL", "BraveProvider", "BraveWire"]

DEFAULT_URL: Final = "https://api.search.brave.com/res/v1"
_FRESHNESS: Final[Mapping[Recency, str]] = {"1d": "pd", "1w": "pw", "1m": "pm", "1y": "py"}
_PAYMENT_REQUIRED: Final = 402
_TOO_MANY_REQUESTS: Final = 429


class BraveWire:
    """`GET /web/search`, at most 20 results. Domains go into the query as `site:` operators.

    A query has at most 50 words with them, hence ten domains to a request. Operators:
    https://api-dashboard.search.brave.com/documentation/resources/search-operators
    """

    service = Service(
        name="brave",
        label="Brave",
        quota_advice="The subscription's requests are used up: raise the limit at "
        "https://api-dashboard.search.brave.com, or wait for next month.",
        key_advice="Brave refused the key: check BRAVE_API_KEY (or BRAVE_SEARCH_API_KEY), or the api_key argument.",
    )
    engine = "web"
    abilities = Abilities(domains="many", recency=True, max_count=20, max_domains=10)
    #: The Search plan. Source: https://api-dashboard.search.brave.com/app/plans
    price_usd = Decimal("0.005")
    path = "/web/search"

    def headers(self, api_key: str) -> Mapping[str, str]:
        return {"X-Subscription-Token": api_key}

    def render(self, request: SearchRequest) -> Outgoing:
        sites = " OR ".join(f"site:{domain}" for domain in request.domains)
        params = {
            "q": f"{request.text} ({sites})" if len(request.domains) > 1 else f"{request.text} {sites}".rstrip(),
            "count": str(request.count),
            "result_filter": "web",
            "text_decorations": "false",
        }
        if request.recency:
            params["freshness"] = _FRESHNESS[request.recency]
        return Outgoing("GET", params=params)

    def parse(self, raw: bytes) -> ProviderAnswer:
        body = read_object(raw, self.service)
        if body.get("type") == "search" and "web" not in body:
            return ProviderAnswer(())  # a section without results is left out
        return read_hits(value_at(raw, "web", "results"), "web.results", self.service, _result)

    def refusal(self, status: int, raw: bytes, headers: Mapping[str, str]) -> SearchError:
        error, meta = fields_at(raw, "error"), fields_at(raw, "error", "meta")
        used_up = status == _TOO_MANY_REQUESTS and _is_used_up(meta.get("quota_limit"), meta.get("quota_current"))
        return refusal(
            self.service,
            status,
            headers=headers,
            code=error.get("code"),
            message=error.get("detail"),
            is_quota=used_up or status == _PAYMENT_REQUIRED,
            is_key=error.get("code") == "SUBSCRIPTION_TOKEN_INVALID",
        )


class BraveProvider(HttpProvider):
    """`base_url` is what precedes `/web/search`."""

    def __init__(self, api_key: str, base_url: str = DEFAULT_URL) -> None:
        super().__init__(BraveWire(), api_key, base_url, default_url=DEFAULT_URL)


def _is_used_up(limit: object, current: object) -> bool:
    """Both limits, of the second and of the month, answer 429; a limit of 0 is none."""
    return isinstance(limit, int) and isinstance(current, int) and 0 < limit <= current


def _result(fields: Fields) -> SearchResult:
    return SearchResult(
        title=fields.get("title") or "",
        url=fields.get("url") or "",
        snippet=fields.get("description") or "",
        published_date=fields.get("page_age") or fields.get("age") or None,
    )
