"""Workers in several processes with one bucket in Postgres: together they keep to it, and no run is worse for that."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llm_common import AnalysisPipeline, Database, LLMClient, WebSearchClient
from llm_common.testing import FakeProvider
from llm_common.testing.analyst import answer_search
from tests.faults.llm.test_shared_limits import BURST, PACE, PER_MINUTE
from tests.faults.pipeline.killed_runs import MODELS, Provider, items
from tests.support.onlooker import rows
from tests.support.programs import Program, running

PROGRAM = str(Path(__file__).with_name("limited_workers.py"))
#: More runs at once than the limit lets go within a call's time.
WORKERS, CONCURRENCY = 2, 14
#: Three calls each: more than twice the burst.
RUNS = 24


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    provider = Provider()
    with FakeProvider.serve_in_thread(answer=provider.chat, search_answer=answer_search) as provider.fake:
        for name, value in provider.fake.environment().items():
            monkeypatch.setenv(name, value)
        yield provider


@asynccontextmanager
async def worker(dsn: str) -> AsyncGenerator[Program]:
    """A process that is ready to work."""
    with running(PROGRAM, dsn, CONCURRENCY, PER_MINUTE) as program:
        assert await asyncio.to_thread(program.line) == "ready"
        yield program


async def test_workers_keep_to_one_limit(dsn: str, provider: Provider) -> None:
    """The provider never gets more than the limit of both; every run completes in its first attempt, each call once."""
    async with Database.connect(dsn) as db, LLMClient() as llm, WebSearchClient(None, db) as search:
        await AnalysisPipeline(llm, search, None, db, max_attempts=1).enqueue(items(RUNS), MODELS)
    async with worker(dsn) as one, worker(dsn) as other:
        began = datetime.now(UTC)
        one.send()
        other.send()
        async with asyncio.timeout(120):
            while await rows(dsn, "SELECT 1 FROM pipeline_runs WHERE status IN ('queued', 'running') LIMIT 1"):
                await asyncio.sleep(0.2)
        for process in (one, other):
            process.send()
            await asyncio.to_thread(process.finish)
    assert await rows(dsn, "SELECT status, attempts, count(*) FROM pipeline_runs GROUP BY 1, 2") == [
        ("completed", 1, RUNS)
    ]
    assert len(await rows(dsn, "SELECT DISTINCT worker FROM pipeline_runs")) == WORKERS
    assert set(Counter(call for call, _ in provider.asked).values()) == {1}
    arrived = sorted((at - began).total_seconds() for _, at in provider.asked)
    assert len(arrived) == 3 * RUNS
    assert max(number - int(BURST + PACE * seconds) for number, seconds in enumerate(arrived, start=1)) <= 0
