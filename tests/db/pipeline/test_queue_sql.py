"""The queue in SQL: whom a run is given to, in which order, and what becomes of it when it is not carried out."""

import asyncio
import random
from typing import Any

import psycopg
import pytest

from llm_common.db.database import Database
from llm_common.db.functions.queue import BusyWorker, EnqueuedRun
from llm_common.db.functions.runs import ClaimedRun, Lease, StepOutput
from llm_common.db.transport import Json
from llm_common.exceptions import PipelineError, RunInProgressError
from tests.support.onlooker import pages

STEP = StepOutput(key="research", step="research", model="r", output="answer")


def run(number: int, **changes: Json) -> dict[str, Json]:
    whole: dict[str, Json] = {
        "bill_id": f"AB-{number}",
        "jurisdiction": "California",
        "models": {"research": "r", "generate": "g", "review": "v", "refine": "g"},
        "input": {"bill_text": f"The board shall act on {number}.", "max_rounds": 2},
        "code_version": "1",
        "idempotency_key": f"key {number}",
        "max_attempts": 2,
    }
    return {**whole, **changes}


async def enqueue(db: Database, *numbers: int, **changes: Json) -> list[str]:
    return [known.run_id for known in await db.queue.enqueue([run(number, **changes) for number in numbers])]


async def claim(db: Database, count: int = 100, worker: str = "w", code: str = "1") -> list[ClaimedRun]:
    batch = await db.queue.claim(worker, code_version=code, max_runs=count, lease_seconds=60.0)
    return list(batch.runs)


def lease(claimed: ClaimedRun, worker: str = "w") -> Lease:
    return Lease(claimed.run.id, worker, claimed.run.epoch, 60.0)


async def statement(dsn: str, text: Any) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = await connection.execute(text)
        return await cursor.fetchall() if cursor.description else []


async def let_lease_end(dsn: str) -> None:
    await statement(dsn, "UPDATE pipeline_runs SET lease_until = now() - interval '1 s' WHERE status = 'running'")


async def test_first_in_first_out(db: Database) -> None:
    """Runs are claimed in the order in which they were given, with their input and as the claiming worker's."""
    ids = [*await enqueue(db, 9, 3, 5), *await enqueue(db, 1, 7)]
    first = await claim(db, 3)
    second = await claim(db, 3)
    assert [claimed.run.id for claimed in (*first, *second)] == ids
    assert first[0].input["bill_text"] == "The board shall act on 9."
    assert {(c.state, c.run.status, c.run.worker, c.run.epoch, c.run.attempts) for c in first} == {
        ("claimed", "running", "w", 1, 1)
    }
    assert await claim(db) == []


async def test_each_run_is_claimed_once(db: Database) -> None:
    """Workers that claim at the same time never get the same run, nor wait for each other, nor leave one out."""
    ids = await enqueue(db, *range(300))

    async def work(worker: str) -> list[str]:
        got: list[str] = []
        while batch := await claim(db, 7, worker):
            got += [claimed.run.id for claimed in batch]
        return got

    claimed = await asyncio.gather(*(work(f"w{number}") for number in range(8)))
    assert sorted(run_id for got in claimed for run_id in got) == sorted(ids)


async def test_what_another_one_just_claims_is_skipped(db: Database, dsn: str) -> None:
    """A claim does not wait for a transaction that holds the head of the queue."""
    ids = await enqueue(db, 1, 2)
    async with await psycopg.AsyncConnection.connect(dsn) as holder:
        await holder.execute("SELECT * FROM pipeline_runs WHERE bill_id = 'AB-1' FOR UPDATE")
        async with asyncio.timeout(20):
            assert [claimed.run.id for claimed in await claim(db)] == [ids[1]]


async def test_a_key_is_one_run(db: Database, dsn: str) -> None:
    """Enqueued again, by several and in any order, a run is the same one; another input is refused for itself."""
    many = await asyncio.gather(
        *(db.queue.enqueue([run(n) for n in (range(50) if at % 2 else range(49, -1, -1))]) for at in range(6))
    )
    assert len({known.run_id for batch in many for known in batch}) == 50
    assert await statement(dsn, "SELECT count(*) FROM pipeline_runs") == [(50,)]
    same, other, new = await db.queue.enqueue([run(1), run(1, bill_id="AB-2"), run(77)])
    assert same == EnqueuedRun(same.run_id, "queued", None)
    assert (other.run_id, "belongs to run" in str(other.refused)) == (same.run_id, True)
    assert (new.status, new.refused) == ("queued", None)


async def test_twice_in_one_call_is_one_run(db: Database) -> None:
    """The same key twice among those that are enqueued together is one run; without keys each is its own."""
    one, other = await enqueue(db, 1, 1)
    assert one == other
    first, second = await enqueue(db, 1, 1, idempotency_key=None)
    assert first != second


async def test_enqueueing_again_is_another_try(db: Database) -> None:
    """A failed or cancelled run waits again, with all its attempts; running and completed ones stay as they are."""
    failed, cancelled, running, completed = await enqueue(db, 1, 2, 3, 4)
    claimed = await claim(db)
    await db.runs.stop(lease(claimed[0]), "failed", "because")
    await db.runs.request_cancel(cancelled)
    await db.runs.stop(lease(claimed[1]), "cancelled", "as asked")
    await db.runs.complete(lease(claimed[3]), analysis={}, review=None, review_passed=None)
    again = await db.queue.enqueue([run(n) for n in (1, 2, 3, 4)])
    assert [(known.run_id, known.status) for known in again] == [
        (failed, "queued"),
        (cancelled, "queued"),
        (running, "running"),
        (completed, "completed"),
    ]
    taken = await claim(db)
    assert [(c.run.id, c.run.attempts, c.run.error_message, c.run.cancel_requested) for c in taken] == [
        (failed, 1, None, False),
        (cancelled, 1, None, False),
    ]


async def test_workers_claim_their_own_code_version(db: Database) -> None:
    """A run waits for workers of its code; enqueued by newer code, it waits for that; the status tells them apart."""
    old, both = await enqueue(db, 1, 2)
    assert await claim(db, code="2") == []
    assert await enqueue(db, 2, code_version="2") == [both]
    status = await db.queue.status()
    assert [(waiting.code_version, waiting.due) for waiting in status.waiting] == [("1", 1), ("2", 1)]
    assert [claimed.run.id for claimed in await claim(db, code="2")] == [both]
    assert [claimed.run.id for claimed in await claim(db, code="1")] == [old]
    assert (await db.queue.status()).workers == (BusyWorker("w", "1", 1), BusyWorker("w", "2", 1))


async def test_a_claim_hands_over_what_is_finished(db: Database) -> None:
    """Who claims a run that was given back goes on from its steps; those of other code are left out."""
    await enqueue(db, 1)
    (first,) = await claim(db)
    await db.runs.save_step(lease(first), STEP)
    assert await db.queue.release(lease(first), wait_seconds=0.0, reason="the worker stops") == "queued"
    (second,) = await claim(db)
    assert second.steps == {"research": "answer"}
    await db.queue.release(lease(second), wait_seconds=0.0, reason="the worker stops")
    await enqueue(db, 1, code_version="2")
    (third,) = await claim(db, code="2")
    assert third.steps == {}


async def test_a_released_run_has_used_no_attempt(db: Database) -> None:
    """However often a run is given back, it never fails for that; its reason is there while it waits."""
    (run_id,) = await enqueue(db, 1)
    for _ in range(5):
        (claimed,) = await claim(db)
        assert await db.queue.release(lease(claimed), wait_seconds=0.0, reason="no budget left") == "queued"
    known = await db.runs.get(run_id)
    assert (known.status, known.attempts, known.epoch, known.error_message) == ("queued", 0, 5, "no budget left")


async def test_retries_run_out(db: Database) -> None:
    """A run that is tried again and again ends failed, with its last reason, at its last attempt."""
    (run_id,) = await enqueue(db, 1)
    ends = []
    for _ in range(2):
        (claimed,) = await claim(db)
        ends.append(await db.queue.retry(lease(claimed), wait_seconds=0.0, reason="429"))
    assert ends == ["queued", "failed"]
    known = await db.runs.get(run_id)
    assert (known.status, known.error_message, known.completed_at is None) == ("failed", "429", False)
    assert await claim(db) == []


async def test_a_delayed_run_is_not_due(db: Database) -> None:
    """It is claimed by nobody before its time, and the claim says how long that is; the status says why."""
    batch = await db.queue.claim("w", code_version="1", max_runs=5, lease_seconds=60.0)
    assert batch.wait_seconds is None
    await enqueue(db, 1)
    (claimed,) = await claim(db)
    await db.queue.release(lease(claimed), wait_seconds=3600.0, reason="the budget resets at midnight")
    batch = await db.queue.claim("w", code_version="1", max_runs=5, lease_seconds=60.0)
    assert batch.runs == ()
    assert 3500 < (batch.wait_seconds or 0) <= 3600
    (waiting,) = (await db.queue.status()).waiting
    assert (waiting.due, waiting.delayed, waiting.reason) == (0, 1, "the budget resets at midnight")
    assert waiting.next_at is not None


async def test_a_wish_to_cancel_wins(db: Database) -> None:
    """A run that is given back after somebody asked it to stop ends cancelled; a waiting one ends at once."""
    one, two = await enqueue(db, 1, 2)
    (claimed,) = await claim(db, 1)
    await db.runs.request_cancel(one)
    await db.runs.request_cancel(two)
    assert await db.queue.retry(lease(claimed), wait_seconds=0.0, reason="429") == "cancelled"
    assert {known.status for known in await db.runs.list()} == {"cancelled"}
    assert await claim(db) == []


async def test_a_fenced_worker_gives_nothing_back(db: Database, dsn: str) -> None:
    """Who was taken over can neither renew nor release nor retry; a heartbeat says so for each run by itself."""
    one, two = await enqueue(db, 1, 2)
    old = await claim(db)
    await let_lease_end(dsn)
    await db.queue.take(one, worker="other", code_version="1", lease_seconds=60.0)
    assert await db.queue.renew([lease(c) for c in old]) == {one: "fenced", two: "held"}
    assert await db.queue.release(lease(old[0]), wait_seconds=0.0, reason="no") == "fenced"
    assert await db.queue.retry(lease(old[0]), wait_seconds=0.0, reason="no") == "fenced"
    assert (await db.runs.get(one)).worker == "other"
    await db.runs.request_cancel(two)
    assert await db.queue.renew([lease(old[1])]) == {two: "cancelled"}
    assert await db.queue.renew([]) == {}


async def test_a_dead_workers_runs_come_back(db: Database, dsn: str) -> None:
    """Swept runs are claimed by others, until their attempts are used up: then they are failed, not claimed."""
    (run_id,) = await enqueue(db, 1)
    for attempt in (1, 2):
        (claimed,) = await claim(db, worker=f"w{attempt}")
        assert claimed.run.attempts == attempt
        await let_lease_end(dsn)
        await db.runs.sweep()
    assert await claim(db) == []
    assert (await db.runs.get(run_id)).status == "failed"


async def test_take_one_run(db: Database, dsn: str) -> None:
    """A named run is taken before it is due and after its owner died, not from a living owner, nor once it ended."""
    (run_id,) = await enqueue(db, 1)
    take = {"worker": "me", "code_version": "1", "lease_seconds": 60.0}
    (claimed,) = await claim(db)
    with pytest.raises(RunInProgressError):
        await db.queue.take(run_id, **take)
    await db.queue.release(lease(claimed), wait_seconds=3600.0, reason="later")
    taken = await db.queue.take(run_id, **take)
    assert (taken.state, taken.run.epoch) == ("claimed", 2)
    await let_lease_end(dsn)
    taken = await db.queue.take(run_id, **take)
    assert (taken.state, taken.run.epoch) == ("claimed", 3)
    await db.runs.stop(lease(taken, "me"), "failed", "because")
    ended = await db.queue.take(run_id, **take)
    assert (ended.state, ended.run.status, ended.run.error_message) == ("ended", "failed", "because")
    await enqueue(db, 1)
    taken = await db.queue.take(run_id, **take)
    await db.runs.complete(lease(taken, "me"), analysis={"a": 1}, review=None, review_passed=None)
    done = await db.queue.take(run_id, **take)
    assert (done.state, done.run.analysis) == ("completed", {"a": 1})
    with pytest.raises(PipelineError, match="is not known"):
        await db.queue.take("00000000-0000-4000-8000-000000000000", **take)


async def test_claims_and_sweeps_do_not_wait_in_a_circle(db: Database, dsn: str) -> None:
    """Claims, heartbeats, enqueueing, sweeps and releases of the same runs, all at once, all come through."""
    await enqueue(db, *range(60), max_attempts=100)
    held = [await claim(db, 20, f"w{number}") for number in range(3)]
    await let_lease_end(dsn)

    async def beat(number: int) -> None:
        for _ in range(5):
            await db.queue.renew([lease(c, f"w{number}") for c in reversed(held[number])])

    async def take(number: int) -> None:
        for _ in range(5):
            await db.runs.sweep()
            for claimed in await claim(db, 10, f"x{number}"):
                await db.queue.release(lease(claimed, f"x{number}"), wait_seconds=0.0, reason="again")

    async with asyncio.timeout(60):
        await asyncio.gather(
            *(beat(n) for n in range(3)), *(take(n) for n in range(3)), enqueue(db, *range(59, -1, -1))
        )
    statuses = await statement(dsn, "SELECT DISTINCT status FROM pipeline_runs ORDER BY 1")
    assert set(statuses) <= {("queued",), ("running",)}
    assert await statement(dsn, "SELECT count(*) FROM pipeline_runs") == [(60,)]


async def test_the_claim_reads_only_what_it_takes(db: Database, dsn: str) -> None:
    """With many runs waiting, due and delayed, the claim's own query is an index scan that stops at its limit."""
    await statement(
        dsn,
        """INSERT INTO pipeline_runs (bill_id, jurisdiction, models, input, code_version, run_at)
           SELECT 'B' || n, 'J', '{}', '{}', (n % 3)::text,
                  now() + CASE WHEN n % 2 = 0 THEN interval '1 h' ELSE n * interval '-1 ms' END
             FROM generate_series(1, 20000) n""",
    )
    await statement(dsn, "ANALYZE pipeline_runs")
    query = """EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON)
        UPDATE pipeline_runs r SET status = 'running', lease_until = now() + interval '1 s' WHERE r.id = ANY (ARRAY(
            SELECT q.id FROM pipeline_runs q WHERE q.status = 'queued' AND q.code_version = '1' AND q.run_at <= now()
             ORDER BY q.run_at, q.id LIMIT 10 FOR UPDATE SKIP LOCKED))"""
    ((answer,),) = await statement(dsn, query)
    nodes = list(_nodes(answer[0]["Plan"]))
    scans = {node["Node Type"]: node["Actual Rows"] for node in nodes if "Scan" in node["Node Type"]}
    assert "Seq Scan" not in scans
    assert "Sort" not in {node["Node Type"] for node in nodes}
    queue = [node for node in nodes if node.get("Index Name") == "pipeline_runs_queue"]
    assert [node["Actual Rows"] for node in queue] == [10]
    assert not [node for node in queue if node.get("Rows Removed by Filter")]


def _nodes(plan: dict[str, Any]) -> Any:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


async def test_a_sweep_reads_no_lease_that_holds(db: Database, dsn: str) -> None:
    """However many runs are being worked on, it reads those whose leases have ended."""
    await statement(
        dsn,
        """INSERT INTO pipeline_runs (bill_id, jurisdiction, models, input, code_version, status, lease_until)
           SELECT 'B' || n, 'J', '{}', '{}', '1', 'running', now() + interval '1 h' FROM generate_series(1, 5000) n""",
    )
    await statement(dsn, "VACUUM (ANALYZE) pipeline_runs")
    assert await pages(dsn, "sweep_stale_runs()") < 20
    await statement(dsn, "UPDATE pipeline_runs SET lease_until = now() - interval '1 s' WHERE bill_id IN ('B7', 'B8')")
    assert (await db.runs.sweep()).queued == 2


async def test_the_text_of_a_bill_is_not_read_to_be_dropped(db: Database, dsn: str) -> None:
    """What hosts see of a run leaves it out before anything is made of it."""
    [run_id] = await enqueue(db, 1, input={"bill_text": random.Random(1).randbytes(500_000).hex(), "max_rounds": 2})
    ((size,),) = await statement(dsn, "SELECT pg_column_size(input) / 8192 FROM pipeline_runs")
    shown = await pages(dsn, f"pipeline_run_json(r) FROM pipeline_runs r WHERE r.id = '{run_id}'")
    # Once to pass the row to the function, and not again within it.
    assert size > 100
    assert shown < 2 * size
