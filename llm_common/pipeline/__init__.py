"""The analysis pipeline: a text's claims, each with quotes that exist, or the word that evidence is insufficient.

Bills are built in; for another subject give the pipeline an `AnalysisSpec`.
"""

from llm_common.pipeline.analysis import AnalysisPipeline
from llm_common.pipeline.batch import Enqueued, Item, RunResult
from llm_common.pipeline.claims import JUDGED, Citation, Claim, Stated
from llm_common.pipeline.engines.base import Engine
from llm_common.pipeline.engines.ray import RayEngine
from llm_common.pipeline.events import PipelineEvent
from llm_common.pipeline.legislation import LEGISLATION, BillAnalysis, Impact
from llm_common.pipeline.schemas import (
    Analysis,
    AnalysisResult,
    ResearchFailure,
    ReviewCritique,
    Source,
    UnsupportedClaim,
)
from llm_common.pipeline.spec import AnalysisSpec, Prompts, StepSettings
from llm_common.pipeline.worker import Worked, Worker

__all__ = [
    "JUDGED",
    "LEGISLATION",
    "Analysis",
    "AnalysisPipeline",
    "AnalysisResult",
    "AnalysisSpec",
    "BillAnalysis",
    "Citation",
    "Claim",
    "Engine",
    "Enqueued",
    "Impact",
    "Item",
    "PipelineEvent",
    "Prompts",
    "RayEngine",
    "ResearchFailure",
    "ReviewCritique",
    "RunResult",
    "Source",
    "Stated",
    "StepSettings",
    "UnsupportedClaim",
    "Worked",
    "Worker",
]
