"""Pipelines next to each other in SQL: each figure, and who is compared with whom."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from llm_common.cost_tracker import CostTracker
from llm_common.db.database import Database
from llm_common.db.functions.comparison import PipelineFigures
from llm_common.db.functions.ledger import outcome_json
from llm_common.db.functions.runs import Lease, StepOutput
from llm_common.models import Outcome, PlannedCall

OLD = {"research": "r", "generate": "old", "review": "v", "refine": "old"}
NEW = {**OLD, "generate": "new", "refine": "new"}


@dataclass
class Ended:
    """A run as it is to end: `passed` None lets it fail."""

    bill: str
    models: dict[str, str]
    cost_nano: int = 1_000
    passed: bool | None = True
    code: str = "1"
    spec: str = "legislation"
    left_out: int = 0
    status: str = "completed"


async def carried_out(db: Database, run: Ended) -> str:
    stored = {"bill_text": "The board shall act.", "max_rounds": 2, "spec": run.spec}
    claimed = await db.runs.start(
        {
            "bill_id": run.bill,
            "jurisdiction": "California",
            "models": dict(run.models),
            "input": stored,
            "code_version": run.code,
        },
        worker="w",
        lease_seconds=60.0,
    )
    lease = Lease(claimed.run.id, "w", claimed.run.epoch, 60.0)
    model = run.models["generate"]
    call = PlannedCall(kind="chat", model=model, provider="p", bound_nano=10**9, step="generate", run_id=lease.run_id)
    reservation = await CostTracker(db).reserve(call)
    outcome = Outcome(model=model, provider="p", cost_nano=run.cost_nano, price_source="map", status="ok")
    step = StepOutput(key="generate", step="generate", model=model, output="draft")
    await db.runs.finish_step(lease, step, reservation_id=reservation.id, outcome=outcome_json(outcome))
    if run.passed is None:
        await db.runs.stop(lease, "failed", "the model gave up")
    else:
        unsupported = [{"claim": "c", "reason": "r"}] * run.left_out
        analysis: dict[str, Any] = {"status": run.status, "unsupported": unsupported, "rounds": 1}
        await db.runs.complete(lease, analysis=analysis, review={}, review_passed=run.passed)
    return lease.run_id


async def compared(dsn: str, arguments: str, columns: str = "models ->> 'generate', runs, cost_per_run") -> list[Any]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        query = f"SELECT {columns} FROM public.compare_pipelines({arguments})"
        return await (await connection.execute(query)).fetchall()  # pyright: ignore[reportArgumentType]


def today() -> date:
    return datetime.now(UTC).date()


async def test_each_figure(db: Database) -> None:
    """Failures count and cost, means are of the completed runs, quality is of the scored ones."""
    ids = [
        await carried_out(db, Ended("AB-1", OLD, 1_000, passed=True, left_out=3)),
        await carried_out(db, Ended("AB-2", OLD, 2_000, passed=False, left_out=0, status="insufficient_evidence")),
        await carried_out(db, Ended("AB-3", OLD, 6_000, passed=None)),
        await carried_out(db, Ended("AB-1", NEW, 500)),
    ]
    await db.runs.score(ids[0], 0.75)
    old, new = await db.runs.compare(ids)
    assert (old.spec, old.code_version, old.models, old.first_run.date()) == ("legislation", "1", OLD, today())
    assert (old.runs, old.completed, old.failed, old.insufficient) == (3, 2, 1, 1)
    assert (old.pass_rate, old.quality, old.scored, old.left_out, old.rounds) == (0.5, 0.75, 1, 1.5, 1.0)
    assert (old.cost_per_run, new.cost_per_run) == (Decimal("0.000003"), Decimal("0.0000005"))
    assert old.p50_seconds is not None
    assert old.p95_seconds is not None
    assert 0 < old.p50_seconds <= old.p95_seconds
    assert (new.runs, new.quality, new.scored, new.failed) == (1, None, 0, 0)


async def test_what_has_not_ended_is_in_no_figure(db: Database) -> None:
    """A run that is still at work is left out; of none at all there is nothing to compare."""
    claimed = await db.runs.start(
        {"bill_id": "AB-1", "jurisdiction": "C", "models": OLD, "input": {"bill_text": "x"}, "code_version": "1"},
        worker="w",
        lease_seconds=60.0,
    )
    assert await db.runs.compare([claimed.run.id]) == ()
    assert await db.runs.compare([]) == ()


async def test_a_run_without_any_paid_call_costs_nothing(db: Database) -> None:
    """One that was refused before its first call is a failed run that cost 0, and no reason for a NULL."""
    claimed = await db.runs.start(
        {"bill_id": "AB-1", "jurisdiction": "C", "models": OLD, "input": {"bill_text": "x"}, "code_version": "1"},
        worker="w",
        lease_seconds=60.0,
    )
    await db.runs.stop(Lease(claimed.run.id, "w", claimed.run.epoch, 60.0), "failed", "budget")
    (figures,) = await db.runs.compare([claimed.run.id])
    assert isinstance(figures, PipelineFigures)
    assert (figures.spec, figures.cost_per_run, figures.tokens_per_run, figures.pass_rate) == (
        "legislation",
        0,
        0,
        None,
    )


async def test_old_code_against_new(db: Database, dsn: str) -> None:
    """Versions and models stand apart, other subjects are left out, and so is what started on another day."""
    for run in (Ended("AB-1", OLD, code="1"), Ended("AB-1", OLD, 3_000, code="2"), Ended("X", OLD, spec="fund-fees")):
        await carried_out(db, run)
    versions = await compared(dsn, f"'{today()}', '{today()}'", "code_version, runs, cost_per_run")
    assert versions == [("1", 1, Decimal("0.000001")), ("2", 1, Decimal("0.000003"))]
    assert len(await compared(dsn, f"'{today()}', '{today()}', 'fund-fees'")) == 1
    assert await compared(dsn, "'2020-01-01', '2020-01-31'") == []
    with pytest.raises(psycopg.Error, match="must not be after"):
        await compared(dsn, f"'{today()}', '2020-01-01'")


async def test_only_what_everybody_had(db: Database, dsn: str) -> None:
    """With shared_only nobody's mean has a bill in it that the others did not complete."""
    for run in (
        Ended("AB-1", OLD, 1_000),
        Ended("AB-1", NEW, 2_000),
        Ended("AB-2", OLD, 9_000),
        Ended("AB-2", NEW, 9_000, passed=None),
        Ended("AB-3", NEW, 50_000),
    ):
        await carried_out(db, run)
    everything = await compared(dsn, f"'{today()}', '{today()}'")
    shared = await compared(dsn, f"'{today()}', '{today()}', 'legislation', true")
    assert [(model, runs) for model, runs, _ in everything] == [("old", 2), ("new", 3)]
    assert shared == [("old", 1, Decimal("0.000001")), ("new", 1, Decimal("0.000002"))]
