"""What the model is asked to answer with, and what the host gets.

Nothing that could be a figure is required, so that a model with nothing to go on has no reason to invent one.
"""

from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

__all__ = [
    "BillAnalysis",
    "Citation",
    "Draft",
    "DraftImpact",
    "Impact",
    "Queries",
    "Quotation",
    "ResearchFailure",
    "ReviewCritique",
    "Source",
    "UnsupportedClaim",
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


def _share(value: float | None) -> float | None:
    # Checked here and not by the schema: some providers refuse schemas with bounds.
    if value is not None and not 0 <= value <= 1:
        raise ValueError("confidence is a share from 0 to 1, or null")
    return value


# ── what the model answers with ──────────────────────────────────────────────────────────────────────────────────────


class Queries(_Frozen):
    """Web searches that would help to judge the bill."""

    queries: tuple[str, ...]


class Quotation(_Frozen):
    """An exact quote from one source, by the source's id."""

    source: str
    quote: str


class DraftImpact(_Frozen):
    """An impact as the model claims it, before its quotes are looked up."""

    title: str
    description: str
    affected: str | None
    amount_usd: float | None
    confidence: float | None
    citations: tuple[Quotation, ...]

    _confidence_is_a_share = field_validator("confidence")(_share)


class Draft(_Frozen):
    """An analysis as the model claims it. `insufficient_evidence`: the sources support no impact."""

    insufficient_evidence: bool
    summary: str
    confidence: float | None
    impacts: tuple[DraftImpact, ...]

    _confidence_is_a_share = field_validator("confidence")(_share)


class ReviewCritique(_Frozen):
    """What the reviewer found. It passed only if there is no factual error and no missing impact."""

    passed: bool
    critique: str
    missing_impacts: tuple[str, ...]
    factual_errors: tuple[str, ...]


# ── what the host gets ───────────────────────────────────────────────────────────────────────────────────────────────


class Source(_Frozen):
    """A numbered source: `BILL`, or `S1`, `S2`, ... `text` is what the model was shown; None for the bill itself."""

    id: str
    title: str
    url: str | None = None
    published_date: str | None = None
    text: str | None = None


class Citation(_Frozen):
    """A quote that was found in its source, as the source spells it: `text[start:end]` of the bill or the source."""

    source_id: str
    title: str
    url: str | None
    quote: str
    start: int
    end: int


class Impact(_Frozen):
    """A claim whose quotes exist and whose figures all occur in them. `amount_usd` is a figure of its quotes."""

    title: str
    description: str
    affected: str | None = None
    amount_usd: float | None = None
    confidence: float | None = None
    citations: tuple[Citation, ...]


class UnsupportedClaim(_Frozen):
    """A claim that was left out of the analysis, and why."""

    claim: str
    reason: str


class ResearchFailure(_Frozen):
    """A search that gave no answer, or found nothing, and why."""

    query: str
    reason: str


class BillAnalysis(_Frozen):
    """The result of a run.

    `status` is "insufficient_evidence" where no claim could be supported: then there are no impacts. `sources` are
    all that the model was shown, `evidence` every quote that the impacts rest on. `unsupported` and
    `research_failures` say what is not in the analysis, and why. `rounds` counts how often the draft was refined;
    `review` is the review of exactly this analysis. `cost_usd` is what all the run's calls cost.
    """

    run_id: str
    bill_id: str
    jurisdiction: str
    status: Literal["completed", "insufficient_evidence"]
    summary: str
    impacts: tuple[Impact, ...]
    confidence: float | None
    sources: tuple[Source, ...]
    evidence: tuple[Citation, ...]
    unsupported: tuple[UnsupportedClaim, ...]
    research_failures: tuple[ResearchFailure, ...]
    review: ReviewCritique | None
    rounds: int
    cost_usd: Decimal
