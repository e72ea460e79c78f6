"""Brave's web search. Source: https://api-dashboard.search.brave.com/api-reference/web/search/get"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from llm_common.search.filters import Abilities
from llm_common.search.providers.facts import Fields, HitFields, Outgoing, ProviderFacts, Refusal, below
from llm_common.search.query import Recency, SearchRequest

__all__ = ["FACTS"]

_FRESHNESS: Final[Mapping[Recency, str]] = {"1d": "pd", "1w": "pw", "1m": "pm", "1y": "py"}
_PAYMENT_REQUIRED: Final = 402
_TOO_MANY_REQUESTS: Final = 429


def _encode(request: SearchRequest) -> Outgoing:
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


def _hits(body: Fields) -> object:
    # A section without results is left out.
    return [] if body.get("type") == "search" and "web" not in body else below(body, "web", "results")


def _refusal(status: int, body: object) -> Refusal:
    code, message = below(body, "error", "code"), below(body, "error", "detail")
    if status == _PAYMENT_REQUIRED or (status == _TOO_MANY_REQUESTS and _is_used_up(below(body, "error", "meta"))):
        return Refusal(code, message, "quota")
    return Refusal(code, message, "key" if code == "SUBSCRIPTION_TOKEN_INVALID" else None)


def _is_used_up(meta: object) -> bool:
    """Both limits, of the second and of the month, answer 429; a limit of 0 is none."""
    limit, current = below(meta, "quota_limit"), below(meta, "quota_current")
    return isinstance(limit, int) and isinstance(current, int) and 0 < limit <= current


#: Domains go into the query as `site:` operators. A query has at most 50 words with them, hence ten to a request:
#: https://api-dashboard.search.brave.com/documentation/resources/search-operators. The price is the Search plan's:
#: https://api-dashboard.search.brave.com/app/plans
FACTS: Final = ProviderFacts(
    name="brave",
    label="Brave",
    engine="web",
    path="/web/search",
    base_url="https://api.search.brave.com/res/v1",
    key_variables=("BRAVE_API_KEY", "BRAVE_SEARCH_API_KEY"),
    url_variables=("BRAVE_API_BASE",),
    price_usd=Decimal("0.005"),
    abilities=Abilities(domains="many", recency=True, max_count=20, max_domains=10),
    rank=30,
    headers=lambda key: {"X-Subscription-Token": key},
    encode=_encode,
    hits=_hits,
    fields=HitFields(snippet="description", published=("page_age", "age")),
    refusal=_refusal,
    quota_advice="The subscription's requests are used up: raise the limit at "
    "https://api-dashboard.search.brave.com, or wait for next month.",
    key_advice="Brave refused the key: check BRAVE_API_KEY (or BRAVE_SEARCH_API_KEY), or the api_key argument.",
)
