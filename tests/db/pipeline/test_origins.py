"""Who answered belongs to a run: to its key, its row, the list and the result; and what it was charged adds up."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common.exceptions import InvalidInputError, PipelineError
from llm_common.pipeline import Item
from llm_common.settings import Settings
from llm_common.testing import Answer, ChatRequest, FakeProvider, Fault, Reply
from llm_common.testing.analyst import answer_chat, answer_search
from tests.support.pipeline_steps import step_of

BILL = (Path(__file__).parents[3] / "examples" / "bills" / "ab-1234.txt").read_text()
MODEL = "openrouter/z-ai/glm-5.3"
MODELS = {"research": MODEL, "generate": MODEL, "review": MODEL}


AnswerTo = Callable[[ChatRequest], Answer | Reply | Fault]


@asynccontextmanager
async def provider(answer: AnswerTo = answer_chat) -> AsyncGenerator[tuple[FakeProvider, Settings]]:
    async with FakeProvider(answer, search_answer=answer_search) as fake:
        yield fake, Settings.from_environment(fake.environment())


@asynccontextmanager
async def pipeline(db: Database, settings: Settings, *, offline: bool = False) -> AsyncGenerator[AnalysisPipeline]:
    tracker = CostTracker(db)
    async with (
        LLMClient(cost_tracker=tracker, settings=settings) as llm,
        WebSearchClient(settings.keys["zai"], db, base_url=settings.urls["zai"], cost_tracker=tracker) as search,
    ):
        yield AnalysisPipeline(llm, search, tracker, db, offline=offline)


def host(settings: Settings) -> str:
    return urlsplit(settings.urls["openrouter"]).netloc


async def test_a_run_says_who_answered(db: Database) -> None:
    """The host is in the run, in the list and in the result; a script is called offline."""
    async with (
        provider() as (_, settings),
        pipeline(db, settings) as real,
        pipeline(db, settings, offline=True) as script,
    ):
        analysis = await real.run("AB-1", BILL, "California", MODELS)
        played = await script.run("AB-2", BILL, "California", MODELS)
    assert analysis.answered_by == host(settings)
    assert played.answered_by == "offline"
    listed = {run.bill_id: run.answered_by for run in await db.runs.list()}
    assert listed == {"AB-1": host(settings), "AB-2": "offline"}
    assert (await db.runs.get(played.run_id)).answered_by == "offline"


async def test_a_key_is_the_same_run_only_where_the_same_answer(db: Database) -> None:
    """Another address, or a script, is never handed the result of a key: an own key is refused, a made one differs."""
    async with provider() as (_, first), provider() as (asked, second):
        async with pipeline(db, first) as here:
            known = await here.run("AB-1", BILL, "California", MODELS, idempotency_key="k")
            (batch,) = await here.run_many([Item("AB-1", BILL, "California")], MODELS)
            again = await here.run("AB-1", BILL, "California", MODELS, idempotency_key="k")
            assert again.run_id == known.run_id
        async with pipeline(db, second) as there:
            with pytest.raises(InvalidInputError, match=f"answered by {host(first)}, not by {host(second)}"):
                await there.run("AB-1", BILL, "California", MODELS, idempotency_key="k")
            (queued,) = await there.enqueue([Item("AB-1", BILL, "California", idempotency_key="k")], MODELS)
            assert "answered by" in str(queued.error)
            assert not asked.requests
            (other,) = await there.run_many([Item("AB-1", BILL, "California")], MODELS)
        async with pipeline(db, second, offline=True) as script:
            (played,) = await script.run_many([Item("AB-1", BILL, "California")], MODELS)
    assert len({batch.run_id, other.run_id, played.run_id}) == 3


async def test_a_script_and_a_model_never_finish_each_others_runs(db: Database) -> None:
    """Neither resumes the other's run, and a worker of the one claims nothing of the other's queue."""
    async with (
        provider() as (_, settings),
        pipeline(db, settings) as real,
        pipeline(db, settings, offline=True) as script,
    ):
        await real.enqueue([Item("AB-1", BILL, "California")], MODELS)
        (waiting,) = await db.runs.list()
        with pytest.raises(PipelineError, match="a scripted provider answers here"):
            await script.resume(waiting.id)
        claimed = await db.queue.claim(worker="w", code_version=script.code_version, max_runs=5, lease_seconds=60)
        assert claimed.runs == ()
        played = await script.run("AB-2", BILL, "California", MODELS)
        with pytest.raises(PipelineError, match="real models answer here"):
            await real.resume(played.run_id)


async def test_steps_and_charges_are_the_cost(db: Database) -> None:
    """Searches, and a call that was interrupted, are charges of their own: with the steps they are the whole cost."""
    asked: list[str] = []

    def stalled_once(request: ChatRequest) -> Answer | Reply | Fault:
        asked.append(step_of(request))
        return Fault.stall() if asked.count("generate") == 1 and asked[-1] == "generate" else answer_chat(request)

    async with provider(stalled_once) as (_, settings), pipeline(db, settings) as real:
        running = asyncio.ensure_future(real.run("AB-1", BILL, "California", MODELS))
        async with asyncio.timeout(20):
            while "generate" not in asked:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait({running})
        (cancelled,) = await db.runs.list()
        analysis = await real.resume(cancelled.id)
    run = await db.runs.get(analysis.run_id)
    charged = {(charge.kind, charge.step, charge.status): charge for charge in run.charges}
    cut = charged["chat", "generate", "cancelled"]
    assert cut.model == MODEL
    # What an interrupted draft may cost is bounded by what drafts may write, not by what the model could.
    assert 0 < cut.cost_usd < Decimal("0.25")
    assert charged["search", "research", "ok"].calls > 1
    steps = sum((step.cost_usd or Decimal(0) for step in run.steps), Decimal(0))
    assert steps + sum((charge.cost_usd for charge in run.charges), Decimal(0)) == run.cost_usd == analysis.cost_usd
