"""The schemas of the models' answers and of the host's result, whatever the subject is.

Nothing that could be a figure is required, so that a model with nothing to go on has no reason to invent one.
"""

from decimal import Decimal
from functools import cache
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args

from pydantic import create_model, field_validator

from llm_common.exceptions import InvalidInputError
from llm_common.pipeline.claims import Citation, Claim, Frozen, Quotation

__all__ = [
    "Analysis",
    "AnalysisResult",
    "Draft",
    "Evidence",
    "Queries",
    "ResearchFailure",
    "ReviewCritique",
    "Source",
    "UnsupportedClaim",
    "claim_type",
    "draft_type",
    "share",
]

C = TypeVar("C", bound=Claim)


def share(value: float | None) -> float | None:
    # Checked here and not by the schema: some providers refuse schemas with bounds.
    if value is not None and not 0 <= value <= 1:
        raise ValueError("confidence is a share from 0 to 1, or null")
    return value


# ── what the model answers with ──────────────────────────────────────────────────────────────────────────────────────


class Queries(Frozen):
    """Web searches that would help to judge the text."""

    queries: tuple[str, ...]


class Parts(Frozen):
    """As a run stores the parts of its text: where each one ends."""

    ends: tuple[int, ...]


class Draft(Frozen):
    """An analysis as the model claims it, without its claims: those have the type and the name of the result's.

    `insufficient_evidence`: the sources support no claim.
    """

    insufficient_evidence: bool
    summary: str
    confidence: float | None

    _confidence_is_a_share = field_validator("confidence")(share)


class ReviewCritique(Frozen):
    """What the reviewer found. It passed only if there is no factual error and no missing impact."""

    passed: bool
    critique: str
    missing_impacts: tuple[str, ...]
    factual_errors: tuple[str, ...]


# ── what the host gets ───────────────────────────────────────────────────────────────────────────────────────────────


class Source(Frozen):
    """A numbered source: the document (a bill is `BILL`), or `S1`, `S2`, ...

    `text` is what the model was shown; None for the document itself, which the host has.
    """

    id: str
    title: str
    url: str | None = None
    published_date: str | None = None
    text: str | None = None


class UnsupportedClaim(Frozen):
    """A claim that was left out of the analysis, and why."""

    claim: str
    reason: str


class ResearchFailure(Frozen):
    """A search that gave no answer, or found nothing, and why."""

    query: str
    reason: str


class Evidence(Frozen):
    """What research found: the numbered sources, and the searches that brought nothing."""

    queries: tuple[str, ...]
    found: tuple[Source, ...]
    failures: tuple[ResearchFailure, ...]


class AnalysisResult(Frozen):
    """The result of a run, apart from its claims. For a subject of your own `Analysis[YourClaim]` is enough.

    `status` is "insufficient_evidence" where no claim could be supported: then there are none. `sources` are
    all that the models were shown, `evidence` every quote that the claims rest on. `unsupported`, `research_failures`
    and `sources_left_out` (found, and too much for a model's window) say what is not in the analysis, and why. `parts`
    is in how many parts a long text was analysed, `rounds` how often a draft was refined at most; `review` is the
    review of exactly this analysis. `cost_usd` is what all the run's calls cost, `answered_by` the hosts that answered
    them: "offline" is a script, whose analysis says nothing about the world.
    """

    #: What this kind of result calls the subject's id, its context, and its claims.
    subject_field: ClassVar[str] = "subject_id"
    context_field: ClassVar[str] = "context"
    claims_field: ClassVar[str] = "claims"

    run_id: str
    status: Literal["completed", "insufficient_evidence"]
    summary: str
    confidence: float | None
    sources: tuple[Source, ...]
    sources_left_out: tuple[Source, ...] = ()
    evidence: tuple[Citation, ...]
    unsupported: tuple[UnsupportedClaim, ...]
    research_failures: tuple[ResearchFailure, ...]
    review: ReviewCritique | None
    rounds: int
    parts: int = 1
    answered_by: str | None = None
    cost_usd: Decimal


class Analysis(AnalysisResult, Generic[C]):
    """The analysis of a subject of your own: `Analysis[Fee]` has `claims` of the type `Fee`."""

    subject_id: str
    context: str
    claims: tuple[C, ...]


# ── from the one to the other ────────────────────────────────────────────────────────────────────────────────────────


def claim_type(result: type[AnalysisResult]) -> type[Claim]:
    """The type of a result's claims. Raises `InvalidInputError` for a result that has none."""
    field = result.model_fields.get(result.claims_field)
    claim: Any = next(iter(get_args(field.annotation)), None) if field else None
    if not (isinstance(claim, type) and issubclass(claim, Claim)):
        raise InvalidInputError(
            f"{result.__name__}.{result.claims_field} must be a tuple[C, ...] of a subclass C of Claim; "
            "a result for your own claims is Analysis[YourClaim]"
        )
    return claim


@cache
def draft_type(result: type[AnalysisResult]) -> type[Draft]:
    """What a model has to answer so that the result can be made of it: claims with quotes instead of citations."""
    claim = claim_type(result)
    drafted: Any = create_model(f"Draft{claim.__name__}", __base__=claim, citations=(tuple[Quotation, ...], ...))
    claims: dict[str, Any] = {result.claims_field: (tuple[drafted, ...], ...)}
    return create_model("Draft", __base__=Draft, **claims)
