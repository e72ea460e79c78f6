"""Numbered sources, and the mechanical check that a claim's quotes and figures are in them. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from pydantic import BaseModel, ConfigDict
from rapidfuzz import fuzz

from llm_common.pipeline.figures import Figure, figures, unsupported_figures
from llm_common.pipeline.quotes import find_quote
from llm_common.pipeline.schemas import (
    Citation,
    Draft,
    DraftImpact,
    Impact,
    Quotation,
    ResearchFailure,
    Source,
    UnsupportedClaim,
)

__all__ = ["BILL", "CheckedDraft", "Evidence", "check_draft"]

BILL: Final = "BILL"
_NEAR_ENOUGH, _NEAREST_CHARACTERS = 70, 300
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+(?=[\"'\u201c\u2018(]?[A-Z0-9$])")


class Evidence(BaseModel):
    """What research came to: the sources that were found, and the searches that brought nothing."""

    model_config = ConfigDict(frozen=True)

    queries: tuple[str, ...]
    found: tuple[Source, ...]
    failures: tuple[ResearchFailure, ...]

    @staticmethod
    def bill(bill_id: str, bill_text: str) -> Source:
        return Source(id=BILL, title=bill_id, text=bill_text)

    def sources(self, bill_id: str, bill_text: str) -> tuple[Source, ...]:
        """The bill first, as `BILL`, then what was found."""
        return (self.bill(bill_id, bill_text), *self.found)


@dataclass(frozen=True, slots=True)
class CheckedDraft:
    """What is left of a draft: every impact has quotes that exist, and no figure that they do not have.

    `unsupported` is what was left out. No impacts: the evidence is insufficient.
    """

    summary: str
    confidence: float | None
    impacts: tuple[Impact, ...]
    unsupported: tuple[UnsupportedClaim, ...]


def check_draft(draft: Draft, sources: Sequence[Source]) -> CheckedDraft:
    """Look every quote up in its source, and every figure of a claim in its quotes; leave out what fails."""
    texts = {source.id: source for source in sources}
    impacts: list[Impact] = []
    unsupported: list[UnsupportedClaim] = []
    for claimed in draft.impacts:
        impact, problems = _check_impact(claimed, texts)
        unsupported += (UnsupportedClaim(claim=claimed.title, reason=problem) for problem in problems)
        if impact is not None:
            impacts.append(impact)
    if not impacts:
        return CheckedDraft("", None, (), tuple(unsupported))
    known = [citation.quote for impact in impacts for citation in impact.citations]
    summary, dropped = _check_summary(draft.summary, "\n".join([*known, texts[BILL].text or ""]))
    return CheckedDraft(summary, draft.confidence, tuple(impacts), (*unsupported, *dropped))


def _check_impact(claimed: DraftImpact, sources: Mapping[str, Source]) -> tuple[Impact | None, list[str]]:
    citations: list[Citation] = []
    problems: list[str] = []
    for quotation in claimed.citations:
        found = _locate(quotation, sources)
        if isinstance(found, Citation):
            citations.append(found)
        else:
            problems.append(found)
    if not citations:
        return None, problems or ["it cites nothing"]
    quotes = "\n".join(citation.quote for citation in citations)
    claim = " \n".join(filter(None, (claimed.title, claimed.description, claimed.affected)))
    invented = unsupported_figures(claim, quotes)
    if invented:
        return None, [*problems, f"{_listed(invented)}: not in the quotes that were found"]
    amount, amount_problem = _check_amount(claimed.amount_usd, quotes)
    impact = Impact(
        title=claimed.title,
        description=claimed.description,
        affected=claimed.affected,
        amount_usd=amount,
        confidence=claimed.confidence,
        citations=tuple(citations),
    )
    return impact, [*problems, *amount_problem]


def _locate(quotation: Quotation, sources: Mapping[str, Source]) -> Citation | str:
    """The citation, or what is wrong with it."""
    source = sources.get(quotation.source.strip().strip("[]()").upper())
    if source is None or source.text is None:
        return f"there is no source {quotation.source[:20]!r}"
    span = find_quote(quotation.quote, source.text)
    if span is None:
        return f"the quote {_short(quotation.quote)} is not in {source.id}{_nearest(quotation.quote, source.text)}"
    start, end = span
    return Citation(
        source_id=source.id, title=source.title, url=source.url, quote=source.text[start:end], start=start, end=end
    )


def _nearest(quote: str, text: str) -> str:
    """The passage that was perhaps meant, for whoever writes the next draft."""
    near = fuzz.partial_ratio_alignment(quote[:_NEAREST_CHARACTERS], text, score_cutoff=_NEAR_ENOUGH)
    if near is None or not quote.strip():
        return ""
    return f"; the nearest text there is {_short(text[near.dest_start : near.dest_end])}"


def _check_amount(amount: float | None, quotes: str) -> tuple[float | None, list[str]]:
    if amount is None:
        return None, []
    if any(figure.unit == "usd" and figure.value == Decimal(str(amount)) for figure in figures(quotes)):
        return amount, []
    return None, [f"the amount {amount:,.2f} is not in its quotes and was left out"]


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
