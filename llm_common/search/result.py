"""One hit of a web search: frozen, so that a host's edit cannot reach the cache."""

from datetime import date, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from llm_common.search.dates import parse_published

__all__ = ["SearchResult"]


def _storable(value: Any) -> Any:
    """Text as PostgreSQL's jsonb takes it: without NUL, without halves of surrogate pairs."""
    if not isinstance(value, str):
        return value
    return value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


_Text = Annotated[str, BeforeValidator(_storable), Field(strict=True)]


class SearchResult(BaseModel):
    """One hit. `url` is http or https; `published_date` is the provider's own text, however strange.

    `relevance_score` is the provider's, higher is better, None where it gives none. `model_dump()` has the five
    fields.
    """

    model_config = ConfigDict(frozen=True)

    title: _Text
    url: _Text
    snippet: _Text
    published_date: _Text | None = None
    relevance_score: float | None = Field(default=None, allow_inf_nan=False)

    @field_validator("url")
    @classmethod
    def _reachable(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("a result's url must be an http or https address")
        return url

    @property
    def domain(self) -> str:
        """The host name in lower case, without `www.`: `irs.gov`."""
        return (urlsplit(self.url).hostname or "").removeprefix("www.")

    @property
    def published(self) -> date | None:
        """The date that `published_date` names; None for none, and for "3 hours ago": see `published_as_of`."""
        return parse_published(self.published_date)

    def published_as_of(self, found_at: datetime) -> date | None:
        """Like `published`, and reads "22小时前" or "3 days ago" as seen from when the search was made."""
        return parse_published(self.published_date, found_at)
