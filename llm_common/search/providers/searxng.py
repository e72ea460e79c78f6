"""SearXNG, a metasearch engine to host oneself. Source: https://docs.searxng.org/dev/search_api.html"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from llm_common.search.filters import Abilities
from llm_common.search.providers.facts import Fields, HitFields, Outgoing, ProviderFacts, Refusal, below
from llm_common.search.query import Recency, SearchRequest

__all__ = ["FACTS"]

_TIME_RANGE: Final[Mapping[Recency, str]] = {"1d": "day", "1w": "week", "1m": "month", "1y": "year"}


def _encode(request: SearchRequest) -> Outgoing:
    params = {"q": request.text, "format": "json"}
    if request.recency:
        params["time_range"] = _TIME_RANGE[request.recency]
    return Outgoing("GET", params=params)


def _hits(body: Fields) -> object:
    """An instance whose engines do not answer says "no results" all the same: that is a failure, not an answer."""
    if body.get("results") == [] and body.get("unresponsive_engines"):
        silent = "its engines did not answer, so whether there are hits is not known. Look at the instance's statistics"
        return Refusal(message=silent, kind="busy")
    return body.get("results")


#: One page of hits, as long as the instance makes it, and no price. A key is sent as a bearer token, for instances
#: behind a gate.
FACTS: Final = ProviderFacts(
    name="searxng",
    label="SearXNG",
    engine="meta",
    path="/search",
    base_url=None,
    url_variables=("SEARXNG_BASE_URL", "SEARXNG_API_BASE"),
    price_usd=Decimal(0),
    abilities=Abilities(domains="none", recency=True),
    rank=50,
    encode=_encode,
    hits=_hits,
    fields=HitFields(published=("publishedDate",)),
    refusal=lambda _status, body: Refusal(message=below(body, "error")),
    key_advice="The instance refuses JSON: add json to search.formats in its settings.yml.",
)
