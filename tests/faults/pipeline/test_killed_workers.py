"""Workers that are killed with SIGKILL again and again: every run completes once, and no finished step is paid again.

LLM_COMMON_KILL_RUNS=250 makes it long (some minutes); the suite kills fewer.
"""

import asyncio
import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common.testing import FakeProvider
from llm_common.testing.analyst import answer_search
from tests.faults.pipeline.killed_runs import (
    MODELS,
    STEPS,
    Provider,
    every_run_completed_once,
    expire_what_died,
    items,
    no_finished_step_was_paid_again,
    rows,
    spent,
)
from tests.support.programs import running

_log = logging.getLogger(__name__)

RUNS = int(os.environ.get("LLM_COMMON_KILL_RUNS", "24"))
WORKERS, CONCURRENCY = 2, 6
PROGRAM = str(Path(__file__).with_name("queue_worker.py"))


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    with FakeProvider.serve_in_thread(answer=provider.chat, search_answer=answer_search) as provider.fake:
        yield provider


@contextmanager
def workers(
    dsn: str, environment: Mapping[str, str], *, lease_seconds: float, kill_every: float
) -> Iterator[list[int]]:
    """`WORKERS` processes, of which one is killed and replaced every so many seconds; at the end, how many were."""
    kills: list[int] = []
    arguments = (PROGRAM, dsn, WORKERS, CONCURRENCY, lease_seconds, kill_every)
    with running(*arguments, env={**os.environ, **environment}) as parent:
        yield kills
        parent.process.send_signal(signal.SIGTERM)
        kills.append(int(parent.finish()))


async def enqueue(dsn: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    async with Database.connect(dsn) as db, LLMClient() as llm, WebSearchClient(None, db) as search:
        # Kills are not the fault of a run, so none of them may use it up.
        pipeline = AnalysisPipeline(llm, search, CostTracker(db), db, max_attempts=1000)
        enqueued = await pipeline.enqueue(items(RUNS), MODELS)
    assert {run.status for run in enqueued} == {"queued"}


async def until_all_ended(dsn: str) -> None:
    async with asyncio.timeout(120 + RUNS * 3):
        while await rows(dsn, "SELECT 1 FROM pipeline_runs WHERE status IN ('queued', 'running') LIMIT 1"):
            await asyncio.sleep(0.2)


@pytest.fixture(params=["psycopg", "pgbouncer"])
def workers_dsn(request: pytest.FixtureRequest, dsn: str) -> str:
    """How the workers reach the database: directly, or through a transaction pooler."""
    return dsn if request.param == "psycopg" else request.getfixturevalue("pooled_dsn")


async def test_killed_at_random(
    workers_dsn: str, dsn: str, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, one of them killed every second: every run completes once, and what the provider billed is there.

    In each step at least one call was under way when its worker was killed.
    """
    provider.left_waiting = {(f"AB-{number}", step) for number, step in enumerate(STEPS)}
    environment = dict(provider.fake.environment())
    await enqueue(dsn, environment, monkeypatch)
    with workers(workers_dsn, environment, lease_seconds=2.0, kill_every=1.0) as kills:
        await until_all_ended(dsn)
    assert kills[0] > 0
    cut_off = Counter(step for (_, step), times in Counter(call for call, _ in provider.asked).items() if times > 1)
    assert set(cut_off) == set(STEPS)
    await every_run_completed_once(dsn, RUNS)
    await no_finished_step_was_paid_again(dsn, provider, RUNS)
    await expire_what_died(dsn)
    assert await spent(dsn) >= round(provider.fake.billed_usd, 9)
    assert await rows(dsn, "SELECT count(*) FROM cost_reservations") == [(0,)]
    assert await rows(dsn, "SELECT * FROM check_cost_ledger('default')") == []
    told = (RUNS, kills[0], len(provider.fake.requests), provider.fake.billed_usd, await spent(dsn))
    _log.info("%d runs, %d kills, %d requests, billed %.6f, spent %.6f", *told)
    _log.info("bills whose call was cut off, by step: %s", dict(cut_off))


async def test_not_killed(dsn: str, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left alone, the same workers spend to the cent what the provider billed, and call for each step once."""
    environment = dict(provider.fake.environment())
    await enqueue(dsn, environment, monkeypatch)
    with workers(dsn, environment, lease_seconds=60.0, kill_every=0.0):
        await until_all_ended(dsn)
    await every_run_completed_once(dsn, RUNS)
    await no_finished_step_was_paid_again(dsn, provider, RUNS)
    assert await rows(dsn, "SELECT count(*) FROM cost_reservations") == [(0,)]
    assert float(await spent(dsn)) == pytest.approx(float(provider.fake.billed_usd), abs=RUNS * 1e-8)
    assert set(Counter(call for call, _ in provider.asked).values()) == {1}
