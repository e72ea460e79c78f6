"""Exa's search. Source: https://exa.ai/docs/reference/search and https://exa.ai/docs/reference/error-codes"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from llm_common.search.filters import RECENCY_DAYS, Abilities
from llm_common.search.providers.facts import Fields, HitFields, Outgoing, ProviderFacts, Refusal, below
from llm_common.search.query import SearchRequest

__all__ = ["FACTS", "encode"]

_ENGINE: Final = "auto"
_PAYMENT_REQUIRED: Final = 402


def encode(request: SearchRequest, now: datetime | None = None) -> Outgoing:
    """`now` is what a recency counts back from: Exa takes a date, and leaves undated pages out."""
    body: Fields = {
        "query": request.text,
        "type": _ENGINE,
        "numResults": request.count,
        "contents": {"highlights": True},
    }
    if request.domains:
        body["includeDomains"] = list(request.domains)
    if request.recency:
        first = (now or datetime.now(UTC)).astimezone(UTC) - timedelta(days=RECENCY_DAYS[request.recency])
        body["startPublishedDate"] = f"{first:%Y-%m-%dT%H:%M:%S}.000Z"
    return Outgoing("POST", body=body)


def _refusal(status: int, body: object) -> Refusal:
    # `{"requestId", "error": text, "tag": "NO_MORE_CREDITS"}`
    kind = "quota" if status == _PAYMENT_REQUIRED else None
    return Refusal(below(body, "tag"), below(body, "error"), kind)


#: At most ten results: each one beyond would be charged on top. The price is that of ten with their highlights:
#: https://exa.ai/docs/reference/pricing
FACTS: Final = ProviderFacts(
    name="exa",
    label="Exa",
    engine=_ENGINE,
    path="/search",
    base_url="https://api.exa.ai",
    key_variables=("EXA_API_KEY",),
    url_variables=("EXA_API_BASE",),
    price_usd=Decimal("0.007"),
    abilities=Abilities(domains="many", recency=True, max_count=10),
    rank=40,
    headers=lambda key: {"x-api-key": key},
    encode=encode,
    fields=HitFields(snippet="highlights", published=("publishedDate",)),
    refusal=_refusal,
    quota_advice="The credits or the key's budget are used up: top up at https://dashboard.exa.ai.",
    key_advice="Exa refused the key: check EXA_API_KEY, or the api_key argument.",
)
