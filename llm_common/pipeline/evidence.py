"""What research came to."""

from llm_common.pipeline.claims import Frozen
from llm_common.pipeline.schemas import ResearchFailure, Source

__all__ = ["Evidence"]


class Evidence(Frozen):
    """The sources that were found, and the searches that brought nothing."""

    queries: tuple[str, ...]
    found: tuple[Source, ...]
    failures: tuple[ResearchFailure, ...]
