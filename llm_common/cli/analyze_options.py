"""What the command line says of an analysis."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["AnalyzeOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzeOptions:
    """The same for one bill and for many."""

    jurisdiction: str
    #: Step → model, where it is said.
    models: Mapping[str, str]
    max_rounds: int
    concurrency: int
    engine: Literal["asyncio", "ray"]
    enqueue: bool
    offline: bool
    as_json: bool
    database_url: str | None
    data_dir: Path | None
