"""From the last draft and its review to what is stored, and from what is stored to what the host gets. Pure."""

from dataclasses import dataclass
from typing import Any, TypeVar

from llm_common.db.functions.runs import RunRecord
from llm_common.db.transport import Json
from llm_common.pipeline.evidence import Evidence
from llm_common.pipeline.grounding import CheckedDraft
from llm_common.pipeline.schemas import AnalysisResult, ReviewCritique, Source
from llm_common.pipeline.spec import AnalysisSpec
from llm_common.pipeline.subject import Subject

__all__ = ["Finding", "analysis_of"]

A = TypeVar("A", bound=AnalysisResult)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the steps came to: `critique` is the review of exactly this draft."""

    subject: Subject
    evidence: Evidence
    draft: CheckedDraft
    critique: ReviewCritique
    rounds: int

    def as_json(self) -> dict[str, Json]:
        """For `analysis_json`: the result without what the run's own columns say."""
        draft, spec = self.draft, self.subject.spec
        sources = [Source(id=spec.document, title=self.subject.id), *self.evidence.found]
        cited = dict.fromkeys(citation for claim in draft.claims for citation in claim.citations)
        stored: dict[str, Any] = {
            "status": "completed" if draft.claims else "insufficient_evidence",
            "summary": draft.summary or self._without_summary(),
            spec.result.claims_field: [claim.model_dump(mode="json") for claim in draft.claims],
            "confidence": draft.confidence,
            "sources": [source.model_dump(mode="json") for source in sources],
            "evidence": [citation.model_dump(mode="json") for citation in cited],
            "unsupported": [claim.model_dump(mode="json") for claim in draft.unsupported],
            "research_failures": [failure.model_dump(mode="json") for failure in self.evidence.failures],
            "rounds": self.rounds,
        }
        return stored

    def _without_summary(self) -> str:
        if self.draft.claims:
            return f"No sentence of the summary could be supported; see the {self.subject.spec.result.claims_field}."
        return (
            f"Insufficient evidence: nothing about {self.subject.id} could be supported by a quote from it or from "
            f"the {len(self.evidence.found)} sources that research found."
        )


def analysis_of(run: RunRecord, spec: AnalysisSpec[A]) -> A:
    """The result of a completed run."""
    return spec.result.model_validate(
        {
            **(run.analysis or {}),
            "run_id": run.id,
            spec.result.subject_field: run.bill_id,
            spec.result.context_field: run.jurisdiction,
            "review": run.review,
            "cost_usd": run.cost_usd,
        }
    )
