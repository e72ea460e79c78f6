"""One hit of a web search: frozen, so that a host's edit cannot reach the cache."""

from datetime import date, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from llm_common._text.storable import storable
from llm_common.search.dates import parse_published
from llm_common.search.urls import checked_url, domain_of

__all__ = ["SearchResult"]


_Text = Annotated[str, Field(strict=True), AfterValidator(storable)]


class SearchResult(BaseModel):
    """One hit. `url` is http or https, without blanks and controls.

    `published_date` is the provider's own text, however strange. `relevance_score` is the provider's, higher is better,
    None where it gives none. `model_dump()` has the five fields.
    """

    model_config = ConfigDict(frozen=True)

    title: _Text
    url: Annotated[str, Field(strict=True)]
    snippet: _Text
    published_date: _Text | None = None
    relevance_score: float | None = Field(default=None, allow_inf_nan=False)

    @field_validator("url")
    @classmethod
    def _reachable(cls, url: str) -> str:
        return checked_url(url)

    @property
    def domain(self) -> str:
        """The host as DNS has it, without `www.` and final dot: `irs.gov`, `xn--bcher-kva.de`."""
        return domain_of(self.url)

    @property
    def published(self) -> date | None:
        """The date that `published_date` names; None for none, and for "3 hours ago": see `published_as_of`."""
        return parse_published(self.published_date)

    def published_as_of(self, found_at: datetime) -> date | None:
        """Like `published`, and reads "22小时前" or "3 days ago" as seen from when the search was made."""
        return parse_published(self.published_date, found_at)
