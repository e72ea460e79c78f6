"""The analysis pipeline: a bill's impacts, each with quotes that exist, or the word that evidence is insufficient."""

from llm_common.pipeline.analysis import AnalysisPipeline
from llm_common.pipeline.events import PipelineEvent
from llm_common.pipeline.schemas import (
    BillAnalysis,
    Citation,
    Impact,
    ResearchFailure,
    ReviewCritique,
    Source,
    UnsupportedClaim,
)

__all__ = [
    "AnalysisPipeline",
    "BillAnalysis",
    "Citation",
    "Impact",
    "PipelineEvent",
    "ResearchFailure",
    "ReviewCritique",
    "Source",
    "UnsupportedClaim",
]
