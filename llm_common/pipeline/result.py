"""From the last drafts and their reviews to what is stored, and from what is stored to what the host gets. Pure."""

from collections.abc import Sequence
from typing import Any, TypeVar

from llm_common.db.functions.runs import RunRecord
from llm_common.db.transport import Json
from llm_common.pipeline.grounding import CheckedDraft
from llm_common.pipeline.merging import PartResult, merge_drafts
from llm_common.pipeline.prompts import spec_of
from llm_common.pipeline.schemas import AnalysisResult, Evidence, Source
from llm_common.pipeline.spec import AnalysisSpec
from llm_common.pipeline.subject import Subject, check_spec

__all__ = ["result_from_run", "result_json"]

A = TypeVar("A", bound=AnalysisResult)


def result_json(subject: Subject, evidence: Evidence, part_results: Sequence[PartResult]) -> dict[str, Json]:
    """For `analysis_json`: the result without what the run's own columns say."""
    draft, spec = merge_drafts(part_results), subject.spec
    shown = {source.id for part_result in part_results for source in part_result.context.shown}
    sources = [Source(id=spec.document, title=subject.id), *(source for source in evidence.found if source.id in shown)]
    left_out = [source.model_copy(update={"text": None}) for source in evidence.found if source.id not in shown]
    cited = dict.fromkeys(citation for claim in draft.claims for citation in claim.citations)
    stored: dict[str, Any] = {
        "status": "completed" if draft.claims else "insufficient_evidence",
        "summary": draft.summary or _without_summary(subject, draft, len(sources) - 1),
        spec.result.claims_field: [claim.model_dump(mode="json") for claim in draft.claims],
        "confidence": draft.confidence,
        "sources": [source.model_dump(mode="json") for source in sources],
        "sources_left_out": [source.model_dump(mode="json") for source in left_out],
        "evidence": [citation.model_dump(mode="json") for citation in cited],
        "unsupported": [claim.model_dump(mode="json") for claim in draft.unsupported],
        "research_failures": [failure.model_dump(mode="json") for failure in evidence.failures],
        "rounds": max(part_result.rounds for part_result in part_results),
        "parts": len(part_results),
    }
    return stored


def _without_summary(subject: Subject, draft: CheckedDraft, sources: int) -> str:
    if draft.claims:
        return f"No sentence of the summary could be supported; see the {subject.spec.result.claims_field}."
    return (
        f"Insufficient evidence: nothing about {subject.id} could be supported by a quote from it or from the "
        f"{sources} sources that research found."
    )


def result_from_run(run: RunRecord, spec: AnalysisSpec[A]) -> A:
    """The result of a completed run. Raises `PipelineError` for a run of another spec."""
    check_spec(run.id, spec_of(run.code_version), spec)
    return spec.result.model_validate(
        {
            **(run.analysis or {}),
            "run_id": run.id,
            spec.result.subject_field: run.bill_id,
            spec.result.context_field: run.jurisdiction,
            "answered_by": (run.analysis or {}).get("answered_by") or run.answered_by,
            "review": run.review,
            "cost_usd": run.cost_usd,
        }
    )
