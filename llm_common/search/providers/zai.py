"""z.ai's web search.

Source: https://docs.z.ai/api-reference/tools/web-search and https://docs.z.ai/api-reference/api-code
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, Literal

from llm_common.search.filters import Abilities
from llm_common.search.providers.facts import Fields, HitFields, Outgoing, ProviderFacts, Refusal, below
from llm_common.search.query import Recency, SearchRequest

__all__ = ["FACTS"]

_ENGINE: Final = "search-prime"
_RECENCY: Final[Mapping[Recency, str]] = {"1d": "oneDay", "1w": "oneWeek", "1m": "oneMonth", "1y": "oneYear"}
#: The balance (1113, which arrives as HTTP 429) or a quota window is used up; then too many requests now.
_KINDS: Final[Mapping[str, Literal["quota", "busy"]]] = {
    **dict.fromkeys(("1113", "1304", "1308", "1310"), "quota"),
    "1302": "busy",
    "1303": "busy",
    "1305": "busy",
}


def _encode(request: SearchRequest) -> Outgoing:
    body: Fields = {"search_query": request.text, "search_engine": _ENGINE, "count": request.count}
    if request.domains:
        (body["search_domain_filter"],) = request.domains
    if request.recency:
        body["search_recency_filter"] = _RECENCY[request.recency]
    return Outgoing("POST", body=body)


def _hits(body: Fields) -> object:
    return _refusal(200, body) if "error" in body else body.get("search_result")


def _refusal(_status: int, body: object) -> Refusal:
    # Two shapes: `{"error": {"code", "message"}}`, and a gateway's own `{"error": text}`, or a page.
    code, message = below(body, "error", "code"), below(body, "error", "message")
    return Refusal(code, message or below(body, "error"), _KINDS.get(str(code)))


#: One plain domain to a request, and about a cent each. Source: https://docs.z.ai/guides/overview/pricing
FACTS: Final = ProviderFacts(
    name="zai",
    label="z.ai",
    engine=_ENGINE,
    path="/web_search",
    base_url="https://api.z.ai/api/paas/v4",
    # z.ai searches with the key and the address that it chats with.
    key_variables=("ZAI_API_KEY", "Z_AI_API_KEY"),
    url_variables=("ZAI_API_BASE",),
    price_usd=Decimal("0.01"),
    abilities=Abilities(domains="one", recency=True),
    rank=10,
    encode=_encode,
    hits=_hits,
    fields=HitFields(url="link", published=("publish_date",)),
    refusal=_refusal,
    quota_advice="The balance or quota is used up: top it up, or check that the key belongs to this base URL "
    "(a coding-plan key answers 1113 elsewhere).",
    key_advice="z.ai refused the key: check ZAI_API_KEY (or Z_AI_API_KEY), or the api_key argument.",
)
