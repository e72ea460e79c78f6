"""From the last draft and its review to what is stored, and from what is stored to what the host gets. Pure."""

from dataclasses import dataclass
from typing import Any

from llm_common.db.functions.runs import RunRecord
from llm_common.db.transport import Json
from llm_common.pipeline.evidence import BILL, CheckedDraft, Evidence
from llm_common.pipeline.schemas import BillAnalysis, ReviewCritique
from llm_common.pipeline.subject import Subject

__all__ = ["Finding", "analysis_of"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the steps came to: `critique` is the review of exactly this draft."""

    subject: Subject
    evidence: Evidence
    draft: CheckedDraft
    critique: ReviewCritique
    rounds: int

    def as_json(self) -> dict[str, Json]:
        """For `analysis_json`: a `BillAnalysis` without what the run's own columns say."""
        draft = self.draft
        sources = [
            source.model_copy(update={"text": None}) if source.id == BILL else source
            for source in self.evidence.sources(self.subject.bill_id, self.subject.bill_text)
        ]
        cited = dict.fromkeys(citation for impact in draft.impacts for citation in impact.citations)
        stored: dict[str, Any] = {
            "status": "completed" if draft.impacts else "insufficient_evidence",
            "summary": draft.summary or self._without_summary(),
            "impacts": [impact.model_dump(mode="json") for impact in draft.impacts],
            "confidence": draft.confidence,
            "sources": [source.model_dump(mode="json") for source in sources],
            "evidence": [citation.model_dump(mode="json") for citation in cited],
            "unsupported": [claim.model_dump(mode="json") for claim in draft.unsupported],
            "research_failures": [failure.model_dump(mode="json") for failure in self.evidence.failures],
            "rounds": self.rounds,
        }
        return stored

    def _without_summary(self) -> str:
        if self.draft.impacts:
            return "No sentence of the summary could be supported; see the impacts."
        return (
            f"Insufficient evidence: no impact of {self.subject.bill_id} could be supported by a quote from the bill "
            f"or from the {len(self.evidence.found)} sources that research found."
        )


def analysis_of(run: RunRecord) -> BillAnalysis:
    """The result of a completed run."""
    return BillAnalysis.model_validate(
        {
            **(run.analysis or {}),
            "run_id": run.id,
            "bill_id": run.bill_id,
            "jurisdiction": run.jurisdiction,
            "review": run.review,
            "cost_usd": run.cost_usd,
        }
    )
