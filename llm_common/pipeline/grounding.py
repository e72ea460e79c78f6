"""The mechanical check that a claim's quotes are in their sources, and its figures in its quotes. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, cast

from pydantic import ValidationError
from rapidfuzz import fuzz

from llm_common._text.figures import Figure, figures, unsupported_figures
from llm_common._text.quotes import find_quote, live_text, unusable
from llm_common.pipeline.claims import Citation, Claim, Quotation, numbers_of, texts_of, title_of
from llm_common.pipeline.part_context import PartContext, Passage
from llm_common.pipeline.schemas import AnalysisResult, Draft, UnsupportedClaim, claim_type

__all__ = ["CheckedDraft", "check_draft"]

_NEAR_ENOUGH, _NEAREST_CHARACTERS = 70, 300
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+(?=[\"'\u201c\u2018(]?[A-Z0-9$])")


@dataclass(frozen=True, slots=True)
class CheckedDraft:
    """What is left of a draft: every claim has quotes that exist, and no figure that they do not have.

    `unsupported` is what was left out. No claims: the evidence is insufficient.
    """

    summary: str
    confidence: float | None
    claims: tuple[Claim, ...]
    unsupported: tuple[UnsupportedClaim, ...]


def check_draft(draft: Draft, context: PartContext) -> CheckedDraft:
    """Look every quote up in its source, and every figure of a claim in its quotes; leave out what fails."""
    result = context.subject.spec.result
    passages = {passage.source.id: passage for passage in context.passages}
    claims: list[Claim] = []
    unsupported: list[UnsupportedClaim] = []
    for claimed in cast("tuple[Claim, ...]", getattr(draft, result.claims_field)):
        claim, problems = _check_claim(claimed, passages, result)
        unsupported += (UnsupportedClaim(claim=title_of(claimed), reason=problem) for problem in problems)
        if claim is not None:
            claims.append(claim)
    if not claims:
        return CheckedDraft("", None, (), tuple(unsupported))
    quotes = [_live(citation, passages) for claim in claims for citation in claim.citations]
    document = context.document
    known = [*quotes, live_text(document.whole, document.start, document.end)]
    summary, dropped = _check_summary(draft.summary, "\n".join(known))
    return CheckedDraft(summary, draft.confidence, tuple(claims), (*unsupported, *dropped))


def _check_claim(
    claimed: Claim, passages: dict[str, Passage], result: type[AnalysisResult]
) -> tuple[Claim | None, list[str]]:
    found = [_locate(quotation, passages) for quotation in cast("tuple[Quotation, ...]", claimed.citations)]
    citations = [citation for citation in found if isinstance(citation, Citation)]
    problems = [problem for problem in found if isinstance(problem, str)]
    if not citations:
        return None, problems or ["it cites nothing"]
    quotes = "\n".join(_live(citation, passages) for citation in citations)
    invented = unsupported_figures(" \n".join(texts_of(claimed)), quotes)
    if invented:
        return None, [*problems, f"{_listed(invented)}: not in the quotes that were found"]
    values = {**claimed.model_dump(exclude={"citations"}), "citations": citations}
    left_out = _unstated(claimed, quotes)
    try:
        claim = claim_type(result).model_validate(values | dict.fromkeys(left_out))
    except ValidationError:
        # A number that the claim cannot be without is not in its quotes.
        return None, [*problems, *left_out.values()]
    return claim, [*problems, *left_out.values()]


def _locate(quotation: Quotation, passages: dict[str, Passage]) -> Citation | str:
    """The citation, or what is wrong with it."""
    passage = passages.get(quotation.source.strip().strip("[]()").upper())
    if passage is None:
        return f"there is no source {quotation.source[:20]!r}"
    source = passage.source
    if (problem := unusable(quotation.quote)) is not None:
        return f"the quote {_short(quotation.quote)} {problem}"
    span = find_quote(quotation.quote, passage.whole, passage.start, passage.end)
    if span is None:
        return f"the quote {_short(quotation.quote)} is not in {source.id}{_nearest(quotation.quote, passage)}"
    start, end = span
    return Citation(
        source_id=source.id, title=source.title, url=source.url, quote=passage.whole[start:end], start=start, end=end
    )


def _live(citation: Citation, passages: dict[str, Passage]) -> str:
    """What a quote supports: not what its source strikes out."""
    return live_text(passages[citation.source_id].whole, citation.start, citation.end)


def _nearest(quote: str, passage: Passage) -> str:
    """The passage that was perhaps meant, for whoever writes the next draft."""
    near = fuzz.partial_ratio_alignment(quote[:_NEAREST_CHARACTERS], passage.text, score_cutoff=_NEAR_ENOUGH)
    if near is None:
        return ""
    start, end = passage.start + near.dest_start, passage.start + near.dest_end
    struck = live_text(passage.whole, start, end) != passage.whole[start:end]
    note = " (what is struck out or printed around a page is no part of it)" if struck else ""
    return f"; the nearest text there is {_short(passage.whole[start:end])}{note}"


def _unstated(claimed: Claim, quotes: str) -> dict[str, str]:
    """The number fields that no quote states, each with the reason why it is left out."""
    stated = figures(quotes)
    return {
        name: f"the {name.split('_')[0]} {value:,} is not in its quotes and was left out"
        for name, value, unit in numbers_of(claimed)
        if not any(figure.value == _decimal(value) and unit in ("", figure.unit) for figure in stated)
    }


def _decimal(value: Any) -> Decimal:
    return Decimal(str(value))


def _check_summary(summary: str, known: str) -> tuple[str, list[UnsupportedClaim]]:
    kept: list[str] = []
    dropped: list[UnsupportedClaim] = []
    for sentence in _SENTENCE_END.split(summary.strip()):
        invented = unsupported_figures(sentence, known)
        if invented:
            dropped.append(UnsupportedClaim(claim=sentence, reason=f"{_listed(invented)}: in no cited text"))
        else:
            kept.append(sentence)
    return " ".join(kept), dropped


def _listed(invented: Sequence[Figure]) -> str:
    return ", ".join(dict.fromkeys(map(str, invented)))


def _short(quote: str) -> str:
    words = " ".join(quote.split())
    return f"“{words if len(words) <= _NEAREST_CHARACTERS else words[: _NEAREST_CHARACTERS - 1] + '…'}”"
