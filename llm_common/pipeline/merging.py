"""What the steps came to about each part of a text → what they came to about all of it. Pure.

Nothing is written anew: every claim and every sentence of the whole was checked, and reviewed, within its part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from llm_common.pipeline.claims import Claim
from llm_common.pipeline.grounding import CheckedDraft
from llm_common.pipeline.part_context import PartContext
from llm_common.pipeline.schemas import ReviewCritique

__all__ = ["PartResult", "merge_critiques", "merge_drafts"]


@dataclass(frozen=True, slots=True)
class PartResult:
    """About one part: `critique` is the review of exactly this draft, which was refined `rounds` times."""

    context: PartContext
    draft: CheckedDraft
    critique: ReviewCritique
    rounds: int


def merge_drafts(part_results: Sequence[PartResult]) -> CheckedDraft:
    """Claims and summaries in the order of the text; as sure as the least sure part."""
    drafts = [part_result.draft for part_result in part_results]
    sure = [draft.confidence for draft in drafts if draft.confidence is not None]
    return CheckedDraft(
        summary="\n\n".join(draft.summary for draft in drafts if draft.summary),
        confidence=min(sure, default=None),
        claims=_without_repetition(list(chain.from_iterable(draft.claims for draft in drafts))),
        unsupported=tuple(chain.from_iterable(draft.unsupported for draft in drafts)),
    )


def merge_critiques(part_results: Sequence[PartResult]) -> ReviewCritique:
    """It passed if every part did."""
    if len(part_results) == 1:
        return part_results[0].critique
    critiques = [part_result.critique for part_result in part_results]
    parts = (f"Part {part_result.context.part.number}: {part_result.critique.critique}" for part_result in part_results)
    return ReviewCritique(
        passed=all(critique.passed for critique in critiques),
        critique="\n".join(parts),
        missing_impacts=tuple(chain.from_iterable(critique.missing_impacts for critique in critiques)),
        factual_errors=tuple(chain.from_iterable(critique.factual_errors for critique in critiques)),
    )


def _without_repetition(claims: Sequence[Claim]) -> tuple[Claim, ...]:
    """What two parts say in the same words is one claim, with the quotes of both."""
    known: dict[str, Claim] = {}
    for claim in claims:
        words = claim.model_dump_json(exclude={"citations", "confidence"}).casefold()
        if (first := known.get(words)) is not None:
            citations = tuple(dict.fromkeys((*first.citations, *claim.citations)))
            claim = first.model_copy(update={"citations": citations})  # noqa: PLW2901
        known[words] = claim
    return tuple(known.values())
