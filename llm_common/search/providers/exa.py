"""Exa's search. Source: https://exa.ai/docs/reference/search and https://exa.ai/docs/reference/error-codes"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, cast

from llm_common.exceptions import SearchError
from llm_common.search.filters import RECENCY_DAYS, Abilities
from llm_common.search.providers.http import HttpProvider, Outgoing
from llm_common.search.providers.parsing import Fields, Service, read_hits, read_object, refusal, value_at
from llm_common.search.providers.protocol import ProviderAnswer
from llm_common.search.query import SearchRequest
from llm_common.search.result import SearchResult

__all__ = ["DEFAULT_URL", "ExaProvider", "ExaWire"]

DEFAULT_URL: Final = "https://api.exa.ai"
_PAYMENT_REQUIRED: Final = 402


class ExaWire:
    """`POST /search` with highlights. At most ten results: each one beyond would be charged on top.

    `now` says what a recency counts back from: Exa takes a date, and leaves undated pages out.
    """

    service = Service(
        name="exa",
        label="Exa",
        quota_advice="The credits or the key's budget are used up: top up at https://dashboard.exa.ai.",
        key_advice="Exa refused the key: check EXA_API_KEY, or the api_key argument.",
    )
    engine = "auto"
    abilities = Abilities(domains="many", recency=True, max_count=10)
    #: With ten results and their highlights. Source: https://exa.ai/docs/reference/pricing
    price_usd = Decimal("0.007")
    path = "/search"

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now

    def headers(self, api_key: str) -> Mapping[str, str]:
        return {"x-api-key": api_key}

    def render(self, request: SearchRequest) -> Outgoing:
        body: Fields = {
            "query": request.text,
            "type": self.engine,
            "numResults": request.count,
            "contents": {"highlights": True},
        }
        if request.domains:
            body["includeDomains"] = list(request.domains)
        if request.recency:
            first = self._now().astimezone(UTC) - timedelta(days=RECENCY_DAYS[request.recency])
            body["startPublishedDate"] = f"{first:%Y-%m-%dT%H:%M:%S}.000Z"
        return Outgoing("POST", body=body)

    def parse(self, raw: bytes) -> ProviderAnswer:
        return read_hits(read_object(raw, self.service).get("results"), "results", self.service, _result)

    def refusal(self, status: int, raw: bytes, headers: Mapping[str, str]) -> SearchError:
        # `{"requestId", "error": text, "tag": "NO_MORE_CREDITS"}`
        return refusal(
            self.service,
            status,
            headers=headers,
            code=value_at(raw, "tag"),
            message=value_at(raw, "error"),
            is_quota=status == _PAYMENT_REQUIRED,
        )


class ExaProvider(HttpProvider):
    """`base_url` is what precedes `/search`."""

    def __init__(self, api_key: str, base_url: str = DEFAULT_URL) -> None:
        super().__init__(ExaWire(), api_key, base_url, default_url=DEFAULT_URL)


def _result(fields: Fields) -> SearchResult:
    parts: Any = fields.get("highlights") or []
    known = cast("list[object]", parts) if isinstance(parts, list) else []
    highlights = [part for part in known if isinstance(part, str)]
    return SearchResult(
        title=fields.get("title") or "",
        url=fields.get("url") or "",
        snippet=" … ".join(highlights),
        published_date=fields.get("publishedDate") or None,
        relevance_score=fields.get("score"),
    )
