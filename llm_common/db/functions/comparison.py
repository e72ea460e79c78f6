"""What `compare_runs` of migrations/*_pipeline.sql answers, typed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from llm_common.money import to_usd

__all__ = ["PipelineFigures", "pipeline_figures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineFigures:
    """What one code version with one combination of models came to, over some runs that ended.

    `failed` ended without an analysis; what they cost is in `cost_per_run` all the same. `pass_rate` is the share of
    the completed ones whose last review passed, `quality` the mean of the scores that people gave `scored` of them,
    both from 0 to 1. `left_out` is how many claims an analysis lost on average because their quotes did not hold.
    Seconds are from the start of a completed run to its end. None: there is nothing to take a mean of.
    """

    spec: str
    code_version: str
    models: Mapping[str, str]
    first_run: datetime
    runs: int
    completed: int
    failed: int
    insufficient: int
    pass_rate: float | None
    quality: float | None
    scored: int
    left_out: float | None
    rounds: float | None
    cost_per_run: Decimal
    tokens_per_run: float
    p50_seconds: float | None
    p95_seconds: float | None


def pipeline_figures(row: Mapping[str, Any]) -> PipelineFigures:
    return PipelineFigures(
        spec=row["spec"],
        code_version=row["code_version"],
        models=row["models"],
        first_run=datetime.fromisoformat(row["first_run"]).astimezone(UTC),
        runs=row["runs"],
        completed=row["completed"],
        failed=row["failed"],
        insufficient=row["insufficient"],
        pass_rate=_number(row["pass_rate"]),
        quality=_number(row["avg_quality"]),
        scored=row["scored"],
        left_out=_number(row["avg_left_out"]),
        rounds=_number(row["avg_rounds"]),
        cost_per_run=to_usd(row["cost_per_run_nano"]),
        tokens_per_run=float(row["tokens_per_run"]),
        p50_seconds=_number(row["p50_seconds"]),
        p95_seconds=_number(row["p95_seconds"]),
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
