"""Many analyses at once: results in order, errors by item, and a restart that pays for nothing again."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

import psycopg
import pytest

from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common.exceptions import AuthenticationError, ContentPolicyError, InvalidInputError, PipelineError
from llm_common.llm.breaker import Breakers
from llm_common.llm.retrying import RetryPolicy
from llm_common.pipeline import BillAnalysis, Item, PipelineEvent, RunResult, Worker
from llm_common.testing import Answer, ChatRequest, FakeProvider, Fault
from llm_common.testing.analyst import answer_chat, answer_search

MODEL = "openrouter/z-ai/glm-5.3"
MODELS = {"research": MODEL, "generate": MODEL, "review": MODEL}
TEXT = "SECTION 1. The board shall pay ${},000 to the county."


def items(*numbers: int) -> list[Item]:
    return [Item(f"AB-{number}", TEXT.format(number + 1), "California") for number in numbers]


class Provider:
    """Answers like the offline analyst, except to the bills in `faults`; counts the calls by bill."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.faults: dict[str, Fault] = {}
        self.fake: FakeProvider

    def chat(self, request: ChatRequest) -> Answer | Fault:
        found = re.search(r'<source id="BILL" title="[^"]*(AB-\d+)', request.last_user_text)
        assert found is not None
        self.asked[found[1]] += 1
        return self.faults.get(found[1]) or answer_chat(request)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    provider = Provider()
    with FakeProvider.serve_in_thread(answer=provider.chat, search_answer=answer_search) as provider.fake:
        for name, value in provider.fake.environment().items():
            monkeypatch.setenv(name, value)
        yield provider


@pytest.fixture
async def pipeline(provider: Provider, db: Database) -> AsyncGenerator[AnalysisPipeline]:
    async with (
        LLMClient(retry=RetryPolicy(base_wait=0.01), breakers=Breakers(), timeout=10.0) as llm,
        WebSearchClient(None, db) as search,
    ):
        yield AnalysisPipeline(llm, search, CostTracker(db), db, lease_seconds=1.0, max_attempts=3)


async def statuses(dsn: str) -> dict[str, str]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return dict(await (await connection.execute("SELECT bill_id, status FROM pipeline_runs")).fetchall())


async def test_results_are_in_order_and_errors_by_item(
    pipeline: AnalysisPipeline, provider: Provider, dsn: str
) -> None:
    """Bad input, a refused bill and good ones in one go: each has its own result, and what is good is completed."""
    provider.faults["AB-3"] = Fault.content_filter()
    odd = [Item("AB-90", "", "California"), Item("AB-91", "a\x00b", "California"), Item("", "text", "California")]
    results = await pipeline.run_many([*items(0, 1), *odd, *items(3, 4)], MODELS, concurrency=3)
    assert [(result.position, result.bill_id) for result in results] == [
        *((0, "AB-0"), (1, "AB-1"), (2, "AB-90"), (3, "AB-91"), (4, ""), (5, "AB-3"), (6, "AB-4")),
    ]
    assert [type(result.error) for result in results] == [
        *(type(None), type(None), InvalidInputError, InvalidInputError, InvalidInputError),
        *(ContentPolicyError, type(None)),
    ]
    for result in results:
        if result.error is None:
            assert isinstance(result.answer(), BillAnalysis)
            assert (result.answer().bill_id, result.answer().run_id) == (result.bill_id, result.run_id)
        else:
            with pytest.raises(type(result.error)):
                result.answer()
    assert await statuses(dsn) == {"AB-0": "completed", "AB-1": "completed", "AB-3": "failed", "AB-4": "completed"}
    assert provider.asked["AB-90"] == provider.asked["AB-91"] == 0


async def test_a_restart_pays_for_nothing_again(pipeline: AnalysisPipeline, provider: Provider) -> None:
    """The same items are the same runs: completed ones are read, failed ones are tried again, other models are new."""
    provider.faults["AB-1"] = Fault.content_filter()
    first = await pipeline.run_many(items(0, 1, 2), MODELS)
    assert first[1].error is not None
    provider.faults.clear()
    before = provider.asked.copy()
    again = await pipeline.run_many(items(2, 1, 0), MODELS)
    assert {result.bill_id: result.run_id for result in again} == {r.bill_id: r.run_id for r in first}
    assert [result.answer().bill_id for result in again] == ["AB-2", "AB-1", "AB-0"]
    assert provider.asked["AB-0"] == before["AB-0"]
    assert provider.asked["AB-1"] > before["AB-1"]
    other = await pipeline.run_many(items(0), MODELS, max_rounds=1)
    assert other[0].run_id != first[0].run_id


async def test_a_key_of_its_own(pipeline: AnalysisPipeline) -> None:
    """An item may bring its key; used for another text, that item alone is refused."""
    text, other = TEXT.format(1), TEXT.format(2)
    one = Item("AB-0", text, "California", idempotency_key="mine")
    refused, fine = await pipeline.run_many([Item("AB-0", other, "California", "mine"), *items(7)], MODELS)
    assert refused.error is None
    again, _ = await pipeline.run_many([one, *items(7)], MODELS)
    assert isinstance(again.error, InvalidInputError)
    assert "belongs to run" in str(again.error)
    assert fine.error is None


async def test_interrupted_it_goes_on_later(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """Cancelled in the middle, nothing is left running; the second time finishes the rest and repeats no step."""
    steps: Counter[tuple[str, str]] = Counter()

    def count(event: PipelineEvent) -> None:
        if event.kind == "step_finished" and not event.from_checkpoint:
            steps[event.run_id, str(event.step)] += 1

    async def some() -> None:
        async with aclosing(pipeline.stream_many(items(*range(12)), MODELS, concurrency=4, on_event=count)) as results:
            taken = 0
            async for _ in results:
                taken += 1
                if taken == 3:
                    await asyncio.sleep(3600)

    working = asyncio.ensure_future(some())
    async with asyncio.timeout(30):
        while list((await statuses(dsn)).values()).count("completed") < 4:
            await asyncio.sleep(0.02)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    left = await statuses(dsn)
    assert set(left.values()) <= {"completed", "queued"}
    assert "queued" in left.values()
    results = await pipeline.run_many(items(*range(12)), MODELS, concurrency=4, on_event=count)
    assert [result.error for result in results] == [None] * 12
    assert set(steps.values()) == {1}


async def test_results_are_taken_as_they_come(pipeline: AnalysisPipeline, provider: Provider) -> None:
    """Items are read as they are needed, and no more results pile up than are taken: memory does not grow with them."""
    read = 0

    def endless() -> Iterator[Item]:
        nonlocal read
        for number in range(100_000):
            read += 1
            yield from items(number)

    async with aclosing(pipeline.stream_many(endless(), MODELS, concurrency=2)) as results:
        taken = 0
        async for result in results:
            assert result.error is None
            taken += 1
            if taken == 5:
                await asyncio.sleep(1.0)
                break
    assert read <= 200
    assert len(provider.asked) <= 5 + 3 * 2


async def test_others_may_help(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """With a worker on the same queue each run is carried out once, and every result comes back here."""
    worker = Worker(pipeline, concurrency=2)
    working = asyncio.ensure_future(worker.work())
    results = await pipeline.run_many(items(*range(10)), MODELS, concurrency=2)
    worker.stop()
    await working
    assert [result.answer().bill_id for result in results] == [f"AB-{number}" for number in range(10)]
    assert set(provider.asked.values()) == {3}


async def test_a_dead_owner_is_waited_out(pipeline: AnalysisPipeline, provider: Provider, db: Database) -> None:
    """A run whose owner was killed is taken over when its lease has ended, without asking for it again."""
    await pipeline.enqueue(items(0), MODELS)
    dead = await db.queue.claim("dead", code_version=pipeline.code_version, max_runs=1, lease_seconds=0.5)
    (result,) = await pipeline.run_many(items(0), MODELS)
    assert result.answer().run_id == dead.runs[0].run.id
    assert (await db.runs.get(str(result.run_id))).attempts == 2


async def test_a_cancelled_run_stays_cancelled(pipeline: AnalysisPipeline, provider: Provider, db: Database) -> None:
    """Somebody cancels a run that waits for its turn: its item says so, and nobody carries it out."""

    async def cancel(event: PipelineEvent) -> None:
        if event.kind == "run_started":
            for run in await db.runs.list(status="queued"):
                await db.runs.request_cancel(run.id)

    first, second = await pipeline.run_many(items(0, 1), MODELS, concurrency=1, on_event=cancel)
    assert first.error is None
    assert isinstance(second.error, PipelineError)
    assert "cancelled" in str(second.error)
    assert provider.asked["AB-1"] == 0


async def test_a_refused_key_is_said_at_once(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """What does not pass by itself is not waited for: the item has the error, its run waits for a better day."""
    provider.faults["AB-0"] = Fault.unauthorized()
    (result,) = await pipeline.run_many(items(0), MODELS)
    assert isinstance(result.error, AuthenticationError)
    assert await statuses(dsn) == {"AB-0": "queued"}
    provider.faults.clear()
    (result,) = await pipeline.run_many(items(0), MODELS)
    assert result.error is None


async def test_a_limit_is_waited_for(pipeline: AnalysisPipeline, provider: Provider) -> None:
    """A provider that asks to come back in a moment is asked again, within the run's attempts."""
    faults = iter([Fault.rate_limit(retry_after=0.01)] * 6)

    class Passing(dict[str, Fault]):
        def get(self, key: str, default: Any = None) -> Any:
            return next(faults, None)

    provider.faults = Passing()
    (result,) = await pipeline.run_many(items(0), MODELS)
    assert result.error is None


async def test_what_breaks_the_items_breaks_the_call(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """An error of whoever gives the items is raised as it is, and nothing is left running."""

    def broken() -> Iterator[Item]:
        yield from items(0)
        raise OSError("no such folder")

    results: list[RunResult[BillAnalysis]] = []
    with pytest.raises(OSError, match="no such folder"):
        results += await pipeline.run_many(broken(), MODELS)
    assert "running" not in (await statuses(dsn)).values()


async def test_no_items_no_work(pipeline: AnalysisPipeline) -> None:
    """An empty list gives an empty list."""
    assert await pipeline.run_many([], MODELS) == []
    assert await pipeline.enqueue([], MODELS) == []
