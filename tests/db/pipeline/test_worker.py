"""Workers on the queue, and many analyses at once: real provider wire, real Postgres, the offline analyst as model."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common.exceptions import (
    AuthenticationError,
    BudgetExceededError,
    InvalidInputError,
    RateLimitError,
    RunCancelledError,
)
from llm_common.llm.breaker import Breakers
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm_client import Limits
from llm_common.models import CostMetrics
from llm_common.pipeline import BillAnalysis, Item, Worked, Worker
from llm_common.testing import Answer, ChatRequest, FakeProvider, Fault, Reply
from llm_common.testing.analyst import answer_chat, answer_search
from tests.support.onlooker import rows
from tests.support.pipeline_steps import step_of

MODEL = "openrouter/z-ai/glm-5.3"
MODELS = {"research": MODEL, "generate": MODEL, "review": MODEL}


def items(*numbers: int) -> list[Item]:
    return [
        Item(f"AB-{n}", f"SECTION 1. The board shall pay ${n + 1},000 to the county.", "California") for n in numbers
    ]


def bill_of(request: ChatRequest) -> str:
    found = re.search(r'<source id="BILL" title="[^"]*(AB-\d+)', request.last_user_text)
    assert found is not None
    return found[1]


class Provider:
    """Answers like the offline analyst, except where `react` says otherwise; counts the calls by bill and step."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.react: Callable[[str, str], Fault | None] = lambda _bill, _step: None
        self.delays: dict[str, float] = {}
        self.fake: FakeProvider

    def chat(self, request: ChatRequest) -> Answer | Reply | Fault:
        bill, step = bill_of(request), step_of(request)
        self.asked[bill, step] += 1
        if step in self.delays:
            return Reply(text=answer_chat(request).text, delay=self.delays[step])
        return self.react(bill, step) or answer_chat(request)

    async def is_asked(self, bill: str, step: str) -> None:
        async with asyncio.timeout(20):
            while not self.asked[bill, step]:
                await asyncio.sleep(0.01)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    provider = Provider()
    with FakeProvider.serve_in_thread(answer=provider.chat, search_answer=answer_search) as provider.fake:
        for name, value in provider.fake.environment().items():
            monkeypatch.setenv(name, value)
        yield provider


@pytest.fixture
async def llm(provider: Provider) -> AsyncGenerator[LLMClient]:
    async with LLMClient(retry=RetryPolicy(base_wait=0.01), breakers=Breakers(), timeout=10.0) as client:
        yield client


@pytest.fixture
async def search(db: Database) -> AsyncGenerator[WebSearchClient]:
    async with WebSearchClient(None, db) as client:
        yield client


@pytest.fixture
def pipeline(llm: LLMClient, search: WebSearchClient, db: Database) -> AnalysisPipeline:
    return AnalysisPipeline(llm, search, CostTracker(db), db, lease_seconds=2.0, max_attempts=3)


async def statuses(dsn: str) -> dict[str, str]:
    return dict(await rows(dsn, "SELECT bill_id, status FROM pipeline_runs"))


async def is_settled(dsn: str, provider: Provider) -> None:
    assert await rows(dsn, "SELECT id FROM cost_reservations") == []
    ((spent,),) = await rows(dsn, "SELECT coalesce(sum(cost_usd), 0) FROM cost_tracking")
    assert float(spent) == pytest.approx(float(provider.fake.billed_usd), abs=1e-8)


async def until_stopped(worker: Worker, when: Callable[[], Any]) -> None:
    working = asyncio.ensure_future(worker.work())
    await when()
    worker.stop()
    async with asyncio.timeout(20):
        await working


async def test_workers_empty_the_queue(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """Two workers share what waits: every run is carried out once, each step asked once, and all is settled."""
    enqueued = await pipeline.enqueue(items(*range(12)), MODELS)
    assert {run.status for run in enqueued} == {"queued"}
    worked: list[Worked] = []
    workers = [Worker(pipeline, concurrency=3, on_worked=worked.append) for _ in range(2)]
    await asyncio.gather(*(worker.drain() for worker in workers))
    assert sorted(one.run_id for one in worked) == sorted(str(run.run_id) for run in enqueued)
    assert all(isinstance(one.analysis, BillAnalysis) and one.error is None for one in worked)
    assert set(provider.asked.values()) == {1}
    assert set((await statuses(dsn)).values()) == {"completed"}
    # On a loaded machine one of them may have taken all before the other came.
    names = {name for (name,) in await rows(dsn, "SELECT DISTINCT worker FROM pipeline_runs")}
    assert names
    assert names <= {worker.name for worker in workers}
    await is_settled(dsn, provider)


async def test_a_worker_keeps_to_its_concurrency(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """Never more runs at the same time than it was told."""
    await pipeline.enqueue(items(*range(8)), MODELS)
    seen: list[int] = []

    async def look(event: Any) -> None:
        if event.kind == "step_started":
            ((running,),) = await rows(dsn, "SELECT count(*) FROM pipeline_runs WHERE status = 'running'")
            seen.append(running)

    await Worker(pipeline, concurrency=2, on_event=look).drain()
    assert max(seen) == 2


async def test_a_stopped_worker_gives_its_runs_back(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """The step under way is finished and kept, the run waits again with all its attempts, and another one goes on."""
    provider.delays["generate"] = 0.5
    await pipeline.enqueue(items(0), MODELS)
    worker = Worker(pipeline)
    await until_stopped(worker, lambda: provider.is_asked("AB-0", "generate"))
    known = await rows(dsn, "SELECT status, attempts, error_message FROM pipeline_runs")
    assert known == [("queued", 0, "its worker stopped, and gave it back")]
    assert ("generate",) in await rows(dsn, "SELECT key FROM pipeline_steps WHERE status = 'completed'")
    await Worker(pipeline).drain()
    assert await statuses(dsn) == {"AB-0": "completed"}
    assert provider.asked["AB-0", "generate"] == 1
    await is_settled(dsn, provider)


async def test_a_second_stop_cuts_off(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """A call that does not answer is cut off and charged; nothing stays with the worker that goes."""
    provider.react = lambda _bill, step: Fault.stall() if step == "generate" else None
    await pipeline.enqueue(items(0, 1), MODELS)
    worker = Worker(pipeline, grace_seconds=600.0)

    async def asked_twice() -> None:
        await provider.is_asked("AB-0", "generate")
        await provider.is_asked("AB-1", "generate")
        worker.stop()

    await until_stopped(worker, asked_twice)
    assert set((await statuses(dsn)).values()) == {"queued"}
    assert await rows(dsn, "SELECT id FROM cost_reservations") == []
    assert await rows(dsn, "SELECT count(*) FROM cost_tracking WHERE step = 'generate'") == [(2,)]


async def test_a_cancelled_worker_gives_its_runs_back(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """A host that cancels the task of its worker finds no run running."""
    provider.react = lambda _bill, step: Fault.stall() if step == "review" else None
    await pipeline.enqueue(items(0, 1, 2), MODELS)
    working = asyncio.ensure_future(Worker(pipeline, grace_seconds=0.0).work())
    await provider.is_asked("AB-2", "review")
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert set((await statuses(dsn)).values()) == {"queued"}


@pytest.mark.parametrize("after", range(12))
async def test_cancelled_at_any_moment(pipeline: AnalysisPipeline, provider: Provider, dsn: str, after: int) -> None:
    """However early a worker is cancelled, it leaves nothing running: also between a claim and its first step."""
    await pipeline.enqueue(items(0, 1, 2), MODELS)
    working = asyncio.ensure_future(Worker(pipeline, grace_seconds=0.0).work())
    for _ in range(after):
        await asyncio.sleep(0.002)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert "running" not in set((await statuses(dsn)).values())


async def test_many_runs_share_one_heartbeat(
    llm: LLMClient, search: WebSearchClient, provider: Provider, db: Database, dsn: str
) -> None:
    """Runs that take longer than a lease keep it; another worker finds nothing to take over."""
    provider.delays["generate"] = 1.2
    called: list[str] = []

    class Listening(Database):
        async def call(self, function: str, arguments: Any) -> Any:
            called.append(function)
            return await super().call(function, arguments)

    async with Listening.connect(dsn) as heard:
        pipeline = AnalysisPipeline(llm, search, CostTracker(heard), heard, lease_seconds=0.4)
        await pipeline.enqueue(items(*range(5)), MODELS)
        working = asyncio.gather(Worker(pipeline, concurrency=5).drain(), Worker(pipeline, concurrency=5).drain())
        async with asyncio.timeout(30):
            await working
    assert set((await statuses(dsn)).values()) == {"completed"}
    assert await rows(dsn, "SELECT DISTINCT attempts FROM pipeline_runs") == [(1,)]
    beats = called.count("renew_run_leases")
    assert 0 < beats < 5 * called.count("complete_run") * 4
    assert "renew_run_lease" not in called


async def test_a_worker_leaves_other_versions_alone(pipeline: AnalysisPipeline, dsn: str) -> None:
    """What was enqueued by other code waits for a worker of that code."""
    await pipeline.enqueue(items(0, 1), MODELS)
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("UPDATE pipeline_runs SET code_version = 'other' WHERE bill_id = 'AB-0'")
    await Worker(pipeline).drain()
    assert await statuses(dsn) == {"AB-0": "queued", "AB-1": "completed"}


async def test_a_refused_budget_waits_for_its_reset(
    llm: LLMClient, search: WebSearchClient, provider: Provider, db: Database, dsn: str
) -> None:
    """Nothing is sent, nothing fails: the run waits until the budget resets, and says so; the worker tries seldom."""
    tracker = CostTracker(db, daily_budget_usd=1000)
    await tracker.log_cost(CostMetrics("m", "s", Decimal("999.9999999"), 1))
    poor = AnalysisPipeline(llm, search, tracker, db)
    await poor.enqueue(items(*range(30)), MODELS)
    refused: list[Worked] = []
    seen = asyncio.Event()

    def note(worked: Worked) -> None:
        refused.append(worked)
        seen.set()

    await until_stopped(Worker(poor, concurrency=4, on_worked=note), seen.wait)
    assert all(isinstance(one.error, BudgetExceededError) for one in refused)
    assert provider.asked.total() == 0
    assert set((await statuses(dsn)).values()) == {"queued"}
    status = await db.queue.status()
    assert status.waiting[0].due >= 30 - 4 - 2
    assert status.waiting[0].delayed == len(refused)
    assert str(status.waiting[0].reason).startswith("BudgetExceededError: budget project/day")
    assert await rows(dsn, "SELECT max(attempts) FROM pipeline_runs") == [(0,)]
    ((hours,),) = await rows(
        dsn,
        "SELECT extract(epoch FROM date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day' "
        "- max(run_at) AT TIME ZONE 'UTC')::float8 FROM pipeline_runs",
    )
    assert abs(hours) < 5


async def test_a_call_that_no_budget_can_hold_fails(
    llm: LLMClient, search: WebSearchClient, provider: Provider, db: Database, dsn: str
) -> None:
    """A run that is dearer than the whole budget is not waited for until tomorrow, and for ever."""
    poor = AnalysisPipeline(llm, search, CostTracker(db, daily_budget_usd=Decimal("0.0001")), db)
    (run,) = await poor.enqueue(items(0), MODELS)
    await Worker(poor).drain()
    known = await db.runs.get(str(run.run_id))
    assert (known.status, str(known.error_message)[:19]) == ("failed", "BudgetExceededError")


async def test_a_rate_limit_delays(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """A run whose provider refuses for a while is completed later, without paying a finished step again."""
    refusals = iter(range(6))  # more than the tries of one call, fewer than those of two

    def refuse(_bill: str, step: str) -> Fault | None:
        return Fault.rate_limit(retry_after=0.01) if step == "review" and next(refusals, None) is not None else None

    provider.react = refuse
    (run,) = await pipeline.enqueue(items(0), MODELS)
    worked: list[Worked] = []
    done = asyncio.Event()

    def note(one: Worked) -> None:
        worked.append(one)
        if one.analysis is not None:
            done.set()

    await until_stopped(Worker(pipeline, on_worked=note), done.wait)
    assert isinstance(worked[0].error, RateLimitError)
    assert await rows(dsn, "SELECT status, attempts FROM pipeline_runs") == [("completed", len(worked))]
    assert len(worked) > 1
    assert provider.asked["AB-0", "generate"] == 1
    assert run.run_id == worked[-1].run_id


async def test_a_limit_of_our_own_is_waited_for_in_the_queue(
    pipeline: AnalysisPipeline, search: WebSearchClient, provider: Provider, db: Database, dsn: str
) -> None:
    """A call that our own limit does not let go in time sends its run back as if it had not been tried."""
    slow = {"openrouter": Limits(requests_per_minute=10)}
    async with LLMClient(limits=slow, breakers=Breakers(), timeout=2.0) as limited:
        hurried = AnalysisPipeline(limited, search, CostTracker(db), db, max_attempts=1)
        await hurried.enqueue(items(0), MODELS)
        await Worker(hurried).drain()
    ((status, attempts, message, waits),) = await rows(
        dsn, "SELECT status, attempts, error_message, run_at > now() FROM pipeline_runs"
    )
    assert (status, attempts, waits) == ("queued", 0, True)
    assert message.startswith("LimitReachedError: ")
    await is_due(dsn)
    await Worker(pipeline).drain()
    assert await statuses(dsn) == {"AB-0": "completed"}
    assert set(provider.asked.values()) == {1}
    await is_settled(dsn, provider)


async def is_due(dsn: str) -> None:
    await rows(dsn, "UPDATE pipeline_runs SET run_at = now() RETURNING id")


async def test_a_limit_that_stays_ends_the_run(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """Delays are bounded: at the last attempt the run is failed with its error, and the queue goes on."""
    provider.react = lambda bill, _step: Fault.rate_limit(retry_after=0.01) if bill == "AB-0" else None
    await pipeline.enqueue(items(0, 1), MODELS)

    async def both_ended() -> None:
        async with asyncio.timeout(30):
            while set((await statuses(dsn)).values()) != {"failed", "completed"}:
                await asyncio.sleep(0.05)

    await until_stopped(Worker(pipeline), both_ended)
    assert await statuses(dsn) == {"AB-0": "failed", "AB-1": "completed"}
    ((attempts, message),) = await rows(
        dsn, "SELECT attempts, error_message FROM pipeline_runs WHERE status = 'failed'"
    )
    assert attempts == 3
    assert message.startswith("RateLimitError")


async def test_a_refused_key_burns_no_backlog(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """A worker whose key is refused sends runs back and slows down; it does not fail a whole queue."""
    provider.react = lambda _bill, _step: Fault.unauthorized()
    await pipeline.enqueue(items(*range(40)), MODELS)
    worked: list[Worked] = []
    seen = asyncio.Event()

    def note(one: Worked) -> None:
        worked.append(one)
        seen.set()

    await until_stopped(Worker(pipeline, concurrency=4, on_worked=note), seen.wait)
    assert all(isinstance(one.error, AuthenticationError) for one in worked)
    assert set((await statuses(dsn)).values()) == {"queued"}
    assert len(worked) < 10


async def test_one_bad_run_stops_no_worker(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """What concerns one run alone fails that run alone; a listener that raises is logged, not followed."""
    provider.react = lambda bill, _step: Fault.content_filter() if bill == "AB-1" else None
    await pipeline.enqueue(items(0, 1, 2), MODELS)

    def broken(_: Worked) -> None:
        raise ValueError("a host's mistake")

    await Worker(pipeline, concurrency=1, on_worked=broken).drain()
    assert await statuses(dsn) == {"AB-0": "completed", "AB-1": "failed", "AB-2": "completed"}


async def test_a_run_that_is_cancelled_stops(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """A worker's run stops at the heartbeat after somebody asked for it, and does not come back."""
    provider.react = lambda _bill, step: Fault.stall() if step == "generate" else None
    (run,) = await pipeline.enqueue(items(0), MODELS)
    worked: list[Worked] = []
    gone = asyncio.Event()

    def note(one: Worked) -> None:
        worked.append(one)
        gone.set()

    async def cancelled() -> None:
        await provider.is_asked("AB-0", "generate")
        await pipeline.cancel(str(run.run_id))
        await gone.wait()

    await until_stopped(Worker(pipeline, on_worked=note), cancelled)
    assert isinstance(worked[0].error, RunCancelledError)
    assert await statuses(dsn) == {"AB-0": "cancelled"}


async def test_the_database_restarts(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """Connections that break under a working and under an idle worker cost no run and no step."""

    def cut() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> 'onlooker'"
            )

    def cutting(_bill: str, step: str) -> None:
        if step == "generate":
            cut()

    provider.react = cutting
    await pipeline.enqueue(items(0, 1, 2), MODELS)

    async def all_ended() -> None:
        async with asyncio.timeout(30):
            while set((await statuses(dsn)).values()) != {"completed"}:
                await asyncio.sleep(0.05)
        await asyncio.to_thread(cut)

    await until_stopped(Worker(pipeline), all_ended)
    assert set(provider.asked.values()) == {1}


async def test_nonsense_is_refused(pipeline: AnalysisPipeline) -> None:
    """A worker without room is no worker."""
    with pytest.raises(InvalidInputError):
        Worker(pipeline, concurrency=0)
    with pytest.raises(InvalidInputError):
        await pipeline.run_many(items(0), MODELS, concurrency=0)
