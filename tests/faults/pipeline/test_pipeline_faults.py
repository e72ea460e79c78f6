"""Whatever fails, whenever a process dies: every run ends, every call is settled, no finished step is paid twice."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest

from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common.exceptions import LLMError, RunInProgressError
from llm_common.llm.breaker import Breakers
from llm_common.llm.retrying import RetryPolicy
from llm_common.pipeline import BillAnalysis
from llm_common.testing import Answer, ChatRequest, FakeProvider, Fault, Reply
from llm_common.testing.analyst import answer_chat, answer_search
from tests.support.pipeline_steps import step_of

BILL_FILE = Path(__file__).parents[3] / "examples" / "bills" / "ab-1234.txt"
BILL = BILL_FILE.read_text()
MODEL = "openrouter/z-ai/glm-5.3"
MODELS = {"research": MODEL, "generate": MODEL, "review": MODEL}
STEPS = ("research", "generate", "review", "refine")

FAULTS: Mapping[str, Fault] = {
    "rate_limit": Fault.rate_limit(retry_after=0.01),
    "server_error": Fault.server_error(503),
    "unauthorized": Fault.unauthorized(),
    "payment_required": Fault.payment_required(),
    "not_found": Fault.not_found(),
    "context_window": Fault.context_window(),
    "content_filter": Fault.content_filter(),
    "content_filter_finish": Fault.content_filter_finish(),
    "error_in_200": Fault.error_in_200(),
    "reset_before_bytes": Fault.reset_before_bytes(),
    "reset_after_bytes": Fault.reset_after_bytes(20),
    "stall": Fault.stall(),
    "truncated_json": Fault.truncated_json(),
    "not_json": Fault.not_json(),
    "wrong_content_type": Fault.wrong_content_type(),
    "empty_choices": Fault.empty_choices(),
    "empty_content": Fault.empty_content(),
    "wrong_schema": Fault.wrong_schema(),
    "code_fenced": Fault.code_fenced(),
    "zai_error": Fault.zai_error("1302"),
    "zai_balance": Fault.zai_error("1113"),
    "redirect": Fault.redirect("http://127.0.0.1:9/elsewhere"),
    "error_mid_stream": Fault.error_mid_stream(),
    "stall_mid_stream": Fault.stall_mid_stream(),
    "cut_stream": Fault.cut_stream(),
    "end_stream_early": Fault.end_stream_early(),
}
#: Slow, but an answer; the pipeline does not stream.
NO_FAULT_HERE = {"slow_drip"}
SEARCH_FAULTS = (
    "rate_limit",
    "server_error",
    "unauthorized",
    "payment_required",
    "reset_before_bytes",
    "reset_after_bytes",
    "truncated_json",
    "not_json",
    "wrong_content_type",
    "empty_content",
    "zai_error",
    "zai_balance",
    "redirect",
)


def bill_of(request: ChatRequest) -> str:
    """The bill's id, from the task; asking again after a misfit adds messages, so all of them are read."""
    said = "\n".join(str(message["content"]) for message in request.messages)
    match = re.search(r"Task: Bill <subject>([^<\s]+)</subject>, jurisdiction", said)
    assert match is not None
    return match[1]


class Provider:
    """Answers like the offline analyst, except where `react` says otherwise; counts the calls by bill and step."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.react: Callable[[str, str], Fault | None] = lambda _bill, _step: None
        self.fake: FakeProvider

    def chat(self, request: ChatRequest) -> Answer | Reply | Fault:
        bill, step = bill_of(request), step_of(request)
        self.asked[bill, step] += 1
        return self.react(bill, step) or answer_chat(request)


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
        LLMClient(retry=RetryPolicy(base_wait=0.01), breakers=Breakers(), timeout=5.0) as llm,
        WebSearchClient(None, db, retries=RetryPolicy(base_wait=0.01)) as search,
    ):
        yield AnalysisPipeline(llm, search, CostTracker(db), db)


async def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return await (await connection.execute(query)).fetchall()  # pyright: ignore[reportArgumentType]


async def run_all(pipeline: AnalysisPipeline) -> dict[str, BillAnalysis | BaseException]:
    """One run for each step, at once; the bill's id says at which step the provider shall fail it."""
    runs = (pipeline.run(f"AT-{step}", BILL, "California", MODELS) for step in STEPS)
    return dict(zip(STEPS, await asyncio.gather(*runs, return_exceptions=True), strict=True))


async def every_run_ended_and_paid(dsn: str, provider: Provider) -> None:
    unfinished = await rows(dsn, "SELECT id FROM public.pipeline_runs WHERE status NOT IN ('completed', 'failed')")
    assert unfinished == []
    silent = await rows(dsn, "SELECT id FROM public.pipeline_runs WHERE (status = 'failed') <> (error_message <> '')")
    assert silent == []
    assert await rows(dsn, "SELECT id FROM public.cost_reservations") == []
    ((spent,),) = await rows(dsn, "SELECT sum(cost_usd) FROM public.cost_tracking")
    assert spent >= round(provider.fake.billed_usd, 9)


def test_the_matrix_has_every_fault() -> None:
    """A fault that the provider learns to play is played here too."""
    played = {name for name, made in vars(Fault).items() if isinstance(made, classmethod)}
    assert played == {fault.name for fault in FAULTS.values()} | NO_FAULT_HERE


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_that_stays(pipeline: AnalysisPipeline, provider: Provider, dsn: str, name: str) -> None:
    """A step that always fails fails its run, with the error stored and all settled; the steps before are kept."""
    provider.react = lambda bill, step: FAULTS[name] if bill == f"AT-{step}" else None
    results = await run_all(pipeline)
    for step, result in results.items():
        if name == "code_fenced":
            assert isinstance(result, BillAnalysis), step
        else:
            assert isinstance(result, LLMError), (step, result)
    await every_run_ended_and_paid(dsn, provider)

    provider.react = lambda _bill, _step: None
    before = provider.asked.copy()
    for run_id, bill in await rows(dsn, "SELECT id::text, bill_id FROM public.pipeline_runs WHERE status = 'failed'"):
        assert (await pipeline.resume(run_id)).status == "completed"
        done = STEPS[: STEPS.index(bill.removeprefix("AT-"))]
        again = {step: provider.asked[bill, step] - before[bill, step] for step in done}
        # The review before a refinement is finished; there is another after it.
        assert again == dict.fromkeys(done, 0) | ({"review": 1} if "review" in done else {})


@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_that_passes(pipeline: AnalysisPipeline, provider: Provider, dsn: str, name: str) -> None:
    """A step that fails once is tried again, or fails its run at once; either way it ends, and is settled."""
    struck: set[str] = set()

    def once(bill: str, step: str) -> Fault | None:
        if bill != f"AT-{step}" or bill in struck:
            return None
        struck.add(bill)
        return FAULTS[name]

    provider.react = once
    results = await run_all(pipeline)
    assert struck == {f"AT-{step}" for step in STEPS}
    for step, result in results.items():
        assert isinstance(result, (BillAnalysis, LLMError)), (step, result)
        if name in {"rate_limit", "server_error", "reset_before_bytes", "wrong_schema", "code_fenced", "not_json"}:
            assert isinstance(result, BillAnalysis), (step, result)
    await every_run_ended_and_paid(dsn, provider)


@pytest.mark.parametrize("name", SEARCH_FAULTS)
async def test_search_faults(pipeline: AnalysisPipeline, provider: Provider, dsn: str, name: str) -> None:
    """A search that fails is named in the result, and the run goes on with what there is."""
    provider.fake.script(*[FAULTS[name]] * 60, endpoint="search")
    analysis = await pipeline.run("AB-1234", BILL, "California", MODELS)
    assert analysis.status == "completed"
    assert analysis.research_failures
    await every_run_ended_and_paid(dsn, provider)


async def test_the_database_restarts_during_each_call(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """Connections that break while a model works cost no step: it is stored with its money at the next try."""

    def cut(_bill: str, _step: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    provider.react = cut
    analysis = await pipeline.run("AB-1234", BILL, "California", MODELS)
    assert analysis.status == "completed"
    assert [provider.asked["AB-1234", step] for step in STEPS] == [1, 1, 2, 1]
    await every_run_ended_and_paid(dsn, provider)


# Runs a bill and kills itself with SIGKILL when the wanted event comes: that is a step boundary, to the statement.
_WORKER = """
import asyncio, os, signal, sys
from pathlib import Path
from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient

dsn, bill, kind, step = sys.argv[1:]

def watch(event):
    if (event.kind, event.step or "") == (kind, step):
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with Database.connect(dsn) as db, LLMClient() as llm, WebSearchClient(None, db) as search:
        models = dict.fromkeys(("research", "generate", "review"), "openrouter/z-ai/glm-5.3")
        pipeline = AnalysisPipeline(llm, search, CostTracker(db), db, lease_seconds=0.5)
        await pipeline.run("AB-1234", Path(bill).read_text(), "California", models, idempotency_key="k", on_event=watch)

asyncio.run(main())
"""


async def start_worker(provider: Provider, dsn: str, kind: str, step: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _WORKER, dsn, str(BILL_FILE), kind, step),
        env={**os.environ, **provider.fake.environment()},
        stderr=subprocess.PIPE,
    )


async def killed_worker(provider: Provider, dsn: str, kind: str, step: str) -> None:
    worker = await start_worker(provider, dsn, kind, step)
    _, stderr = await asyncio.wait_for(worker.communicate(), 30)
    assert worker.returncode == -signal.SIGKILL, stderr.decode()


async def taken_over(pipeline: AnalysisPipeline) -> BillAnalysis:
    """As a host does: the same call again, until the dead worker's lease has ended."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await pipeline.run("AB-1234", BILL, "California", MODELS, idempotency_key="k")
            except RunInProgressError:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("run_started", ""),
        ("step_finished", "research"),
        ("sources", ""),
        ("step_finished", "generate"),
        ("step_finished", "review:1"),
        ("step_finished", "refine:1"),
        ("step_finished", "review:2"),
    ],
)
async def test_killed_at_a_step_boundary(
    pipeline: AnalysisPipeline, provider: Provider, dsn: str, kind: str, step: str
) -> None:
    """A run whose process is killed between two steps goes on where it stopped, and pays no finished step again."""
    await killed_worker(provider, dsn, kind, step)
    assert await rows(dsn, "SELECT status FROM public.pipeline_runs") == [("running",)]
    analysis = await taken_over(pipeline)
    assert analysis.status == "completed"
    asked = {step: provider.asked["AB-1234", step] for step in STEPS}
    assert asked == {"research": 1, "generate": 1, "review": 2, "refine": 1}
    searches = [request for request in provider.fake.requests if request.endpoint == "search"]
    assert len(searches) == len({str(request.body) for request in searches})
    await every_run_ended_and_paid(dsn, provider)
    assert analysis.cost_usd == (await rows(dsn, "SELECT sum(cost_usd) FROM public.cost_tracking"))[0][0]
    assert await rows(dsn, "SELECT attempts FROM public.pipeline_runs") == [(2,)]


async def test_killed_in_the_middle_of_a_call(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """A call under way at a kill is asked again; its reserve stays, to be charged: paid money is never forgotten."""
    provider.react = lambda _bill, step: Fault.stall() if step == "generate" else None
    worker = await start_worker(provider, dsn, "never", "")
    async with asyncio.timeout(30):
        while not provider.asked["AB-1234", "generate"]:
            await asyncio.sleep(0.02)
    worker.kill()
    await worker.communicate()
    provider.react = lambda _bill, _step: None
    assert (await taken_over(pipeline)).status == "completed"
    chats = [request.outcome for request in provider.fake.requests if request.endpoint == "chat"]
    assert len(chats) == 6  # one for each step and review, and generate a second time
    assert chats.count("answered") == 5
    held = await rows(dsn, "SELECT step, run_id IS NOT NULL FROM public.cost_reservations")
    assert held == [("generate", True)]
