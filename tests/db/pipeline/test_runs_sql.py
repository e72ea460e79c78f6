"""Runs in SQL: one owner at a time, checkpoints with their money, and an end for every run."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from llm_common.cost_tracker import CostTracker
from llm_common.db.database import Database
from llm_common.db.functions.ledger import outcome_json
from llm_common.db.functions.runs import ClaimedRun, Lease, StepOutput, SweptRuns
from llm_common.db.transport import Json
from llm_common.exceptions import (
    BudgetExceededError,
    DatabaseError,
    InvalidInputError,
    PipelineError,
    RunInProgressError,
)
from llm_common.models import Budget, Outcome, PlannedCall

RUN: dict[str, Json] = {
    "bill_id": "AB-1",
    "jurisdiction": "California",
    "models": {"research": "r", "generate": "g", "review": "v", "refine": "g"},
    "input": {"bill_text": "The board shall act.", "max_rounds": 2},
    "code_version": "1",
    "idempotency_key": "key",
    "max_attempts": 3,
}
STEP = StepOutput(key="research", step="research", model="r", output="answer")


async def start(db: Database, worker: str = "w1", seconds: float = 60.0, **changes: Json) -> tuple[ClaimedRun, Lease]:
    claimed = await db.runs.start({**RUN, **changes}, worker=worker, lease_seconds=seconds)
    return claimed, Lease(claimed.run.id, worker, claimed.run.epoch, seconds)


async def resume(db: Database, run_id: str, worker: str = "w2", code: str = "1") -> tuple[ClaimedRun, Lease]:
    claimed = await db.runs.resume(run_id, worker=worker, code_version=code, lease_seconds=60.0)
    return claimed, Lease(run_id, worker, claimed.run.epoch, 60.0)


async def let_lease_end(db: Database, dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute(
            "UPDATE public.pipeline_runs SET lease_until = now() - interval '1 second' WHERE status = 'running'"
        )


def outcome(**changes: Any) -> Mapping[str, Json]:
    values: dict[str, Any] = {"model": "r", "provider": "p", "cost_nano": 700, "price_source": "map", "status": "ok"}
    return outcome_json(Outcome(**{**values, **changes}))


async def reserve(db: Database, run_id: str, *budgets: Budget) -> str:
    call = PlannedCall(
        kind="chat", model="r", provider="p", bound_nano=1_000, step="research", run_id=run_id, budgets=budgets
    )
    return (await CostTracker(db).reserve(call)).id


async def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return await (await connection.execute(query)).fetchall()  # pyright: ignore[reportArgumentType]


async def test_a_key_is_one_run(db: Database) -> None:
    """Of two starts with one key at once, one claims the run and the other is told that it is in progress."""
    results = await asyncio.gather(*(start(db, f"w{n}") for n in range(4)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, RunInProgressError)]
    claimed = [result for result in results if isinstance(result, tuple)]
    assert (len(claimed), len(refused)) == (1, 3)
    assert {error.run_id for error in refused} == {claimed[0][0].run.id}
    assert len(await db.runs.list()) == 1


async def test_without_a_key_each_start_is_a_run(db: Database) -> None:
    """Nothing is shared by runs that have no key."""
    first, second = await start(db, idempotency_key=None), await start(db, idempotency_key=None)
    assert first[0].run.id != second[0].run.id


@pytest.mark.parametrize(
    "change",
    [
        {"bill_id": "AB-2"},
        {"jurisdiction": "Nevada"},
        {"input": {"bill_text": "Other.", "max_rounds": 2}},
        {"models": {"research": "x", "generate": "g", "review": "v", "refine": "g"}},
    ],
)
async def test_a_key_is_good_for_one_input(db: Database, change: dict[str, Json]) -> None:
    """A key that is used for another input is refused, before anything is claimed."""
    await start(db)
    with pytest.raises(InvalidInputError, match="belongs to run"):
        await start(db, "w2", **change)


async def test_a_completed_run_is_returned(db: Database) -> None:
    """Starting or resuming a completed run gives its result, and nobody works on it again."""
    claimed, lease = await start(db)
    assert await db.runs.complete(lease, analysis={"a": 1}, review={"b": 2}, review_passed=True)
    for again in (await start(db, "w2"), await resume(db, claimed.run.id)):
        assert again[0].state == "completed"
        assert (again[0].run.analysis, again[0].run.review, again[0].run.epoch) == ({"a": 1}, {"b": 2}, 1)


async def test_a_takeover_fences_the_old_owner(db: Database, dsn: str) -> None:
    """Whoever was taken over can neither renew, nor store, nor end the run."""
    claimed, old = await start(db)
    await let_lease_end(db, dsn)
    taken, new = await start(db, "w2")
    assert (taken.run.id, taken.run.epoch, taken.run.attempts) == (claimed.run.id, 2, 2)
    assert await db.runs.renew(old) == "fenced"
    assert await db.runs.save_step(old, STEP) == "fenced"
    assert await db.runs.complete(old, analysis={}, review=None, review_passed=None) is None
    assert not await db.runs.stop(old, "failed", "no")
    assert not (await db.runs.get(claimed.run.id)).steps
    assert await db.runs.renew(new) == "held"


async def test_same_worker_name_in_another_epoch_is_fenced(db: Database, dsn: str) -> None:
    """A worker that comes back after its own takeover cannot use its old lease."""
    _, old = await start(db)
    await let_lease_end(db, dsn)
    await start(db, "w1")
    assert await db.runs.renew(old) == "fenced"


async def test_a_late_owner_that_nobody_replaced_goes_on(db: Database, dsn: str) -> None:
    """An ended lease alone takes nothing away: it can be renewed until somebody takes over."""
    _, lease = await start(db)
    await let_lease_end(db, dsn)
    assert await db.runs.renew(lease) == "held"
    with pytest.raises(RunInProgressError):
        await start(db, "w2")


async def test_checkpoint_and_money_are_one(db: Database, dsn: str) -> None:
    """Finishing a step stores it, settles its money and prolongs the lease; what fails leaves nothing of the three."""
    claimed, lease = await start(db, seconds=60)
    reservation = await reserve(db, claimed.run.id)
    await let_lease_end(db, dsn)
    state, settlement = await db.runs.finish_step(lease, STEP, reservation_id=reservation, outcome=outcome())
    assert state == "held"
    assert isinstance(settlement, dict)
    assert settlement["settled"] is True
    run = await db.runs.get(claimed.run.id)
    assert run.cost_usd == Decimal("0.0000007")
    assert [(step.key, step.status, step.cost_usd) for step in run.steps] == [
        ("research", "completed", Decimal("0.0000007"))
    ]
    assert await rows(dsn, "SELECT lease_until > now() FROM public.pipeline_runs") == [(True,)]

    unknown = "00000000-0000-4000-8000-000000000000"
    with pytest.raises(DatabaseError) as refused:
        await db.runs.finish_step(lease, replace(STEP, key="x"), reservation_id=unknown, outcome=outcome())
    assert refused.value.sqlstate == "LC003"
    assert len((await db.runs.get(claimed.run.id)).steps) == 1


async def test_finishing_twice_changes_nothing(db: Database) -> None:
    """A repeated finish, after an answer that was lost on its way, pays and stores once."""
    claimed, lease = await start(db)
    reservation = await reserve(db, claimed.run.id)
    for _ in range(2):
        await db.runs.finish_step(lease, STEP, reservation_id=reservation, outcome=outcome())
    run = await db.runs.get(claimed.run.id)
    assert (len(run.steps), run.cost_usd) == (1, Decimal("0.0000007"))


async def test_a_fenced_owners_money_is_settled(db: Database, dsn: str) -> None:
    """Who was taken over while calling pays for the call; its answer is not stored."""
    claimed, old = await start(db)
    reservation = await reserve(db, claimed.run.id)
    await let_lease_end(db, dsn)
    await start(db, "w2")
    state, _ = await db.runs.finish_step(old, STEP, reservation_id=reservation, outcome=outcome())
    assert state == "fenced"
    run = await db.runs.get(claimed.run.id)
    assert (run.steps, run.cost_usd) == ((), Decimal("0.0000007"))
    assert await rows(dsn, "SELECT count(*) FROM public.cost_reservations") == [(0,)]


async def test_a_failed_step_is_paid_and_not_resumed(db: Database) -> None:
    """A step without an output costs what it cost, and is asked again after a resume."""
    claimed, lease = await start(db)
    reservation = await reserve(db, claimed.run.id)
    failed = replace(STEP, output=None)
    await db.runs.finish_step(lease, failed, reservation_id=reservation, outcome=outcome(status="failed"))
    assert [step.status for step in (await db.runs.get(claimed.run.id)).steps] == ["failed"]
    await db.runs.stop(lease, "failed", "because")
    again, lease = await resume(db, claimed.run.id)
    assert again.steps == {}
    await db.runs.save_step(lease, STEP)
    assert [step.status for step in (await db.runs.get(claimed.run.id)).steps] == ["completed"]


async def test_checkpoints_belong_to_a_code_version(db: Database) -> None:
    """A resume by other code starts from nothing; one by the same code goes on."""
    claimed, lease = await start(db)
    await db.runs.save_step(lease, STEP)
    await db.runs.stop(lease, "failed", "because")
    same, lease = await resume(db, claimed.run.id)
    assert same.steps == {"research": "answer"}
    await db.runs.stop(lease, "failed", "because")
    other, _ = await resume(db, claimed.run.id, code="2")
    assert (other.steps, other.run.code_version) == ({}, "2")


@pytest.mark.parametrize("ended", ["failed", "cancelled"])
async def test_an_ended_run_can_be_resumed(db: Database, ended: Any) -> None:
    """A failed or cancelled run is taken up again with all its attempts, its error and its wish to stop forgotten."""
    claimed, lease = await start(db)
    await db.runs.request_cancel(claimed.run.id)
    await db.runs.stop(lease, ended, "because")
    stopped = await db.runs.get(claimed.run.id)
    assert (stopped.status, stopped.error_message, stopped.completed_at is None) == (ended, "because", False)
    again, lease = await resume(db, claimed.run.id)
    assert (again.state, again.run.attempts, again.run.error_message) == ("claimed", 1, None)
    assert await db.runs.renew(lease) == "held"


async def test_cancel(db: Database, dsn: str) -> None:
    """A living owner is told at its next sign of life; a run without one is cancelled at once; an ended one stays."""
    claimed, lease = await start(db)
    assert (await db.runs.request_cancel(claimed.run.id)).status == "running"
    assert await db.runs.renew(lease) == "cancelled"
    assert await db.runs.save_step(lease, STEP) == "cancelled"
    assert len((await db.runs.get(claimed.run.id)).steps) == 1
    await let_lease_end(db, dsn)
    assert (await db.runs.request_cancel(claimed.run.id)).status == "cancelled"
    assert (await db.runs.request_cancel(claimed.run.id)).status == "cancelled"
    with pytest.raises(PipelineError, match="is not known"):
        await db.runs.request_cancel("00000000-0000-4000-8000-000000000000")


async def test_the_sweep_ends_what_nobody_owns(db: Database, dsn: str) -> None:
    """Runs whose owner died are queued, failed after the last attempt, or cancelled as wished; living ones stay."""
    queued, _ = await start(db, idempotency_key="queued")
    failed, _ = await start(db, idempotency_key="failed", max_attempts=1)
    cancelled, _ = await start(db, idempotency_key="cancelled")
    await db.runs.request_cancel(cancelled.run.id)
    await let_lease_end(db, dsn)
    # A start sweeps, so that a run without an owner does not stay "running" while others are started.
    living, _ = await start(db, idempotency_key="living")
    status = {run.id: run.status for run in await db.runs.list()}
    assert [status[claimed.run.id] for claimed in (queued, failed, cancelled, living)] == [
        "queued",
        "failed",
        "cancelled",
        "running",
    ]
    assert await db.runs.sweep() == SweptRuns(0, 0, 0)
    assert "stopped without a word" in str((await db.runs.get(failed.run.id)).error_message)


async def test_attempts_run_out(db: Database, dsn: str) -> None:
    """A run whose owners keep dying is failed at the attempt after the last, not tried for ever."""
    for attempt in range(1, 4):
        claimed, _ = await start(db, f"w{attempt}")
        assert (claimed.state, claimed.run.attempts) == ("claimed", attempt)
        await let_lease_end(db, dsn)
    exhausted, _ = await start(db, "w4")
    assert (exhausted.state, exhausted.run.status) == ("exhausted", "failed")


async def test_starts_and_sweeps_do_not_wait_in_a_circle(db: Database, dsn: str) -> None:
    """Many starts that take over and sweep each other's dead runs all come through."""
    for n in range(8):
        await start(db, "dead", idempotency_key=f"k{n}")
    await let_lease_end(db, dsn)
    claims = await asyncio.gather(*(start(db, f"w{n}", idempotency_key=f"k{n}") for n in range(8)))
    assert [claimed.state for claimed, _ in claims] == ["claimed"] * 8


async def test_a_refused_budget_leaves_the_run_as_it_was(db: Database) -> None:
    """Reserving under a run's own budget is refused without a trace in the run."""
    claimed, _ = await start(db)
    with pytest.raises(BudgetExceededError):
        await reserve(db, claimed.run.id, Budget(Decimal("0.0000001"), "total", "run"))
    assert (await db.runs.get(claimed.run.id)).cost_usd == 0


async def test_score(db: Database) -> None:
    """A person's score is from 0 to 1 and comes with a note."""
    claimed, _ = await start(db)
    scored = await db.runs.score(claimed.run.id, 0.75, "good")
    assert (scored.quality_score, scored.quality_note) == (0.75, "good")
    for wrong in (-0.1, 1.1):
        with pytest.raises(InvalidInputError, match="from 0 to 1"):
            await db.runs.score(claimed.run.id, wrong)


async def test_ids_that_are_none(db: Database) -> None:
    """What is no UUID is refused with a sentence, what is unknown is a pipeline error."""
    with pytest.raises(InvalidInputError, match="is not a run id"):
        await db.runs.get("AB-1")
    with pytest.raises(PipelineError):
        await db.runs.get("00000000-0000-4000-8000-000000000000")


async def test_compare_models(db: Database, dsn: str) -> None:
    """Models stand next to each other with pass rate, quality, cost, tokens and latency of their own calls."""
    for number, (model, passed, cost) in enumerate([("a", True, 100), ("a", False, 300), ("b", True, 50)]):
        claimed, lease = await start(db, idempotency_key=str(number))
        reservation = await reserve(db, claimed.run.id)
        paid = outcome(model=model, cost_nano=cost, seconds=float(number + 1))
        await db.runs.finish_step(lease, STEP, reservation_id=reservation, outcome=paid)
        await db.runs.complete(lease, analysis={}, review={}, review_passed=passed)
        await db.runs.score(claimed.run.id, 0.5 if passed else 0.25)
    today = datetime.now(UTC).date()
    found = await rows(
        dsn,
        "SELECT model, runs, pass_rate, avg_quality, cost_per_run, p50_latency_ms, p95_latency_ms "
        f"FROM public.compare_models('{today}', '{today}', 'research')",
    )
    assert found == [
        ("a", 2, Decimal("0.500"), Decimal("0.375"), Decimal("0.000000200"), 1000, 2000),
        ("b", 1, Decimal("1.000"), Decimal("0.500"), Decimal("0.000000050"), 3000, 3000),
    ]
    assert await rows(dsn, f"SELECT * FROM public.compare_models('{today}', '{today}', 'review')") == []


async def test_nobody_else_reaches_runs(dsn: str) -> None:
    """Supabase's public roles can neither read the tables nor call a function; service_role can do both."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for role in ("anon", "authenticated"):
            await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
            for statement in (
                "SELECT * FROM public.pipeline_runs",
                "SELECT * FROM public.pipeline_steps",
                "SELECT public.list_runs()",
                "SELECT public.sweep_stale_runs()",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await connection.execute(statement)
            await connection.execute("RESET ROLE")
        await connection.execute("SET ROLE service_role")
        started = await connection.execute("SELECT public.start_run(%s, 'w', 60)", (Jsonb(RUN),))
        assert (await started.fetchone() or ({},))[0]["state"] == "claimed"
        listed = await connection.execute("SELECT pg_catalog.jsonb_array_length(public.list_runs())")
        assert await listed.fetchone() == (1,)


async def test_lists_leave_the_text_out(db: Database) -> None:
    """Neither a list nor a run carries the bill's text, which only a claim needs."""
    claimed, _ = await start(db)
    assert claimed.input["bill_text"] == "The board shall act."
    listed = await db.call("list_runs", {"wanted": {}})
    got = await db.call("get_run", {"run_id": claimed.run.id})
    assert "The board shall act" not in f"{listed}{got}"
    assert [run.id for run in await db.runs.list(status="running", bill_id="AB-1")] == [claimed.run.id]
    assert await db.runs.list(status="failed") == ()
