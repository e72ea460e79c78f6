"""Tavily's search, basic depth. Source: https://docs.tavily.com/documentation/api-reference/endpoint/search"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from llm_common.search.filters import Abilities
from llm_common.search.providers.facts import Fields, HitFields, Outgoing, ProviderFacts, Refusal, below
from llm_common.search.query import Recency, SearchRequest

__all__ = ["FACTS"]

_ENGINE: Final = "basic"
_TIME_RANGE: Final[Mapping[Recency, str]] = {"1d": "day", "1w": "week", "1m": "month", "1y": "year"}
#: The plan's limit and the pay-as-you-go limit, as statuses of Tavily's own.
_QUOTA_STATUSES: Final = frozenset({432, 433})


def _encode(request: SearchRequest) -> Outgoing:
    body: Fields = {"query": request.text, "search_depth": _ENGINE, "max_results": request.count}
    if request.domains:
        body["include_domains"] = list(request.domains)
    if request.recency:
        body["time_range"] = _TIME_RANGE[request.recency]
    return Outgoing("POST", body=body)


def _refusal(status: int, body: object) -> Refusal:
    # `{"detail": {"error": text}}`, and `{"detail": text}` or a list where the request is malformed.
    message = below(body, "detail", "error") or below(body, "detail")
    return Refusal(message=message, kind="quota" if status in _QUOTA_STATUSES else None)


#: A credit, pay as you go. Source: https://docs.tavily.com/documentation/api-credits
FACTS: Final = ProviderFacts(
    name="tavily",
    label="Tavily",
    engine=_ENGINE,
    path="/search",
    base_url="https://api.tavily.com",
    key_variables=("TAVILY_API_KEY",),
    url_variables=("TAVILY_API_BASE",),
    price_usd=Decimal("0.008"),
    abilities=Abilities(domains="many", recency=True, max_count=20, max_domains=300),
    rank=20,
    encode=_encode,
    fields=HitFields(published=("published_date",)),
    refusal=_refusal,
    quota_advice="The plan's credits are used up: raise its limit at app.tavily.com, or wait for next month.",
    key_advice="Tavily refused the key: check TAVILY_API_KEY, or the api_key argument.",
)
