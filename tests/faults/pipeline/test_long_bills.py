"""Bills that are longer than a window: every word is read, nothing is cut, and no finished part is paid twice."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common._text.tokens import count
from llm_common.exceptions import ContextWindowError, LLMError, RunInProgressError
from llm_common.llm.breaker import Breakers
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.llm.pricing import Price, Rates
from llm_common.pipeline import BillAnalysis
from llm_common.testing import Answer, ChatRequest, FakeProvider, Fault, Reply, SearchRequest
from llm_common.testing.analyst import answer_chat, answer_search
from tests.support.pipeline_steps import step_of

MODEL = "openrouter/z-ai/glm-5.3"
MODELS = {"research": MODEL, "generate": MODEL, "review": MODEL}
PRICE = Price(rates=Rates.per_million(input="1", output="4"))
WINDOW = 24_000
LAST = "Any operator who conceals a leak shall forfeit a penalty of $77 million for each day."


def window(tokens: int) -> dict[str, ModelInfo]:
    info = ModelInfo(
        provider="openrouter", name="z-ai/glm-5.3", max_input_tokens=tokens, max_output_tokens=8_000, price=PRICE
    )
    return {MODEL: info}


def bill(pages: int) -> str:
    """A section a page, each of some 3,000 characters; the last one has what must not be missed."""
    filler = "Nothing in this paragraph changes what another law provides about the matters that it names. " * 29
    sections = (
        f"SEC. {page}. The board of region {page} shall inspect each pump within {page + 20} days.\n\n{filler}\n\n"
        for page in range(1, pages)
    )
    return f"{''.join(sections)}SEC. {pages}. {LAST}\n"


def part_of(request: ChatRequest) -> tuple[int, int]:
    match = re.search(r"What you see is part (\d+) of (\d+),", request.last_user_text)
    return (int(match[1]), int(match[2])) if match else (1, 1)


def document_in(request: ChatRequest) -> str:
    match = re.search(r'<source id="BILL"[^>]*>\n(.*?)\n</source>', request.last_user_text, re.DOTALL)
    assert match is not None
    return match[1]


class Provider:
    """The offline analyst, except where `react` says otherwise; it notes what each call was shown."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, int]] = Counter()
        self.shown: dict[tuple[str, int], str] = {}
        self.answer: Callable[[ChatRequest], Answer | Reply | Fault] = answer_chat
        self.react: Callable[[str, int], Fault | None] = lambda _step, _part: None
        self.pages: Callable[[SearchRequest], Sequence[Mapping[str, Any]]] = answer_search
        self.prompts: list[str] = []
        self._sent: list[Any] = []
        self.fake: FakeProvider

    @property
    def longest(self) -> int:
        """Tokens of the longest request."""
        return max(map(count, self._sent))

    def chat(self, request: ChatRequest) -> Answer | Reply | Fault:
        step, (part, _) = step_of(request), part_of(request)
        self.asked[step, part] += 1
        self.shown[step, part] = document_in(request)
        self.prompts.append(request.last_user_text)
        self._sent.append(request.messages)
        return self.react(step, part) or self.answer(request)

    def search(self, request: SearchRequest) -> Sequence[Mapping[str, Any]]:
        return self.pages(request)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    provider = Provider()
    with FakeProvider.serve_in_thread(answer=provider.chat, search_answer=provider.search) as provider.fake:
        for name, value in provider.fake.environment().items():
            monkeypatch.setenv(name, value)
        yield provider


@pytest.fixture
async def pipeline(provider: Provider, db: Database) -> AsyncGenerator[AnalysisPipeline]:
    async with (
        LLMClient(prices=window(WINDOW), breakers=Breakers()) as llm,
        WebSearchClient(None, db) as search,
    ):
        yield AnalysisPipeline(llm, search, CostTracker(db), db)


async def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return await (await connection.execute(query)).fetchall()  # pyright: ignore[reportArgumentType]


async def test_every_page_of_three_hundred_is_read(pipeline: AnalysisPipeline, provider: Provider) -> None:
    """Each step sees the bill to its last word, in parts that fit; what only the last section says is found there."""
    text = bill(300)
    analysis = await pipeline.run("AB-300", text, "California", MODELS, max_rounds=1)
    assert analysis.parts > 10
    for step in ("research", "generate", "review"):
        parts = [shown for (asked, _), shown in sorted(provider.shown.items()) if asked == step]
        assert len(parts) == analysis.parts
        assert "".join(parts) == text
    assert provider.longest <= WINDOW - 8_000 * 3 // 4
    (penalty,) = [impact for impact in analysis.impacts if impact.amount_usd == 77e6]
    assert penalty.citations[0].start > len(text) - 200
    assert all(text[cited.start : cited.end] == cited.quote for cited in analysis.evidence if cited.source_id == "BILL")
    assert len(analysis.impacts) > analysis.parts


async def test_the_largest_bill_is_read_to_its_end(provider: Provider, db: Database, dsn: str) -> None:
    """Nearly ten megabytes, on a model of a million tokens: all parts are analysed, and a quote of its end is found."""
    text = (bill(60).replace(LAST, "") * 61)[: 9_999_000 - len(LAST)] + LAST
    queries = '{"queries": ["pump leak penalty"]}'
    passed = '{"passed": true, "critique": "", "missing_impacts": [], "factual_errors": []}'
    draft = '{"insufficient_evidence": false, "summary": "", "confidence": null, "impacts": [%s]}'
    impact = (
        '{"title": "Penalty", "description": "Whoever conceals a leak pays $77 million a day.", "affected": null, '
        f'"amount_usd": 77000000, "confidence": null, "citations": [{{"source": "BILL", "quote": "{LAST}"}}]}}'
    )

    def answered(request: ChatRequest) -> Answer:
        step, (part, parts) = step_of(request), part_of(request)
        return Answer({"research": queries, "review": passed}.get(step, draft % (impact if part == parts else "")))

    provider.answer = answered
    async with (
        LLMClient(prices=window(1_000_000), breakers=Breakers(), timeout=120.0) as llm,
        WebSearchClient(None, db) as search,
    ):
        pipeline = AnalysisPipeline(llm, search, CostTracker(db), db)
        analysis = await pipeline.run("AB-9999", text, "California", MODELS, max_rounds=0)
    assert len(text.encode()) > 9_900_000
    assert analysis.parts > 1
    for step in ("research", "generate"):
        assert "".join(shown for (asked, _), shown in sorted(provider.shown.items()) if asked == step) == text
    (penalty,) = analysis.impacts
    assert penalty.citations[0].start == len(text) - len(LAST)
    assert await rows(dsn, "SELECT status FROM public.pipeline_runs") == [("completed",)]
    assert await rows(dsn, "SELECT count(*) FROM public.cost_reservations") == [(0,)]


async def test_a_failed_part_costs_no_other(pipeline: AnalysisPipeline, provider: Provider, dsn: str) -> None:
    """The run of a part that fails fails; a resumed one asks for that part and what was not begun, nothing twice."""
    provider.react = lambda step, part: Fault.unauthorized() if (step, part) == ("generate", 2) else None
    with pytest.raises(LLMError):
        await pipeline.run("AB-60", bill(60), "California", MODELS, max_rounds=0)
    ((run_id,),) = await rows(dsn, "SELECT id::text FROM public.pipeline_runs WHERE status = 'failed'")
    assert await rows(dsn, "SELECT count(*) FROM public.cost_reservations") == [(0,)]
    provider.react = lambda _step, _part: None
    analysis = await pipeline.resume(run_id)
    assert analysis.parts > 2
    assert [key for key, times in provider.asked.items() if times > 1] == [("generate", 2)]
    keys = {key for (key,) in await rows(dsn, "SELECT key FROM public.pipeline_steps WHERE step = 'generate'")}
    assert keys == {f"generate:part-{part:02}" for part in range(1, analysis.parts + 1)}


# Runs a bill on a small window, and kills itself with SIGKILL when the wanted step is finished.
_WORKER = """
import asyncio, os, signal, sys
from pathlib import Path
from llm_common import AnalysisPipeline, CostTracker, Database, LLMClient, WebSearchClient
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.llm.pricing import Price, Rates

dsn, bill, window, step = sys.argv[1:]
model = "openrouter/z-ai/glm-5.3"
info = ModelInfo(provider="openrouter", name="z-ai/glm-5.3", max_input_tokens=int(window), max_output_tokens=8_000,
                 price=Price(rates=Rates.per_million(input="1", output="4")))

def watch(event):
    if (event.kind, event.step) == ("step_finished", step):
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with Database.connect(dsn) as db, LLMClient(prices={model: info}) as llm, WebSearchClient(None, db) as search:
        models = dict.fromkeys(("research", "generate", "review"), model)
        pipeline = AnalysisPipeline(llm, search, CostTracker(db), db, lease_seconds=0.5)
        await pipeline.run("AB-60", Path(bill).read_text(), "California", models, idempotency_key="k",
                           max_rounds=0, on_event=watch)

asyncio.run(main())
"""


async def test_killed_half_way(pipeline: AnalysisPipeline, provider: Provider, dsn: str, tmp_path: Path) -> None:
    """A worker that is killed between two parts leaves the finished ones to the next, which pays none of them again."""
    path = tmp_path / "bill.txt"
    path.write_text(bill(60))
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _WORKER, dsn, str(path), str(WINDOW), "generate:part-02"),
        env={**os.environ, **provider.fake.environment()},
        stderr=subprocess.PIPE,
    )
    _, stderr = await asyncio.wait_for(worker.communicate(), 60)
    assert worker.returncode == -signal.SIGKILL, stderr.decode()
    finished = [
        (key.partition(":")[0], int(key.rpartition("-")[2]))
        for (key,) in await rows(dsn, "SELECT key FROM public.pipeline_steps WHERE model IS NOT NULL")
    ]
    assert ("generate", 2) in finished
    provider.asked.clear()
    analysis = await taken_over(pipeline, path.read_text())
    assert len(finished) < 3 * analysis.parts
    assert [key for key in finished if provider.asked[key]] == []
    assert set(provider.asked) == {
        (step, part) for step in ("research", "generate", "review") for part in range(1, analysis.parts + 1)
    } - set(finished)
    assert any(impact.amount_usd == 77e6 for impact in analysis.impacts)


async def taken_over(pipeline: AnalysisPipeline, text: str) -> BillAnalysis:
    async with asyncio.timeout(30):
        while True:
            try:
                return await pipeline.run("AB-60", text, "California", MODELS, idempotency_key="k", max_rounds=0)
            except RunInProgressError:
                await asyncio.sleep(0.05)


async def test_too_much_evidence_is_left_out_and_told(pipeline: AnalysisPipeline, provider: Provider) -> None:
    """Sources beyond the window are named in the result, the model hears of them, and what fits best is kept."""

    def long_pages(request: SearchRequest) -> list[dict[str, Any]]:
        about = "leak operator conceals penalty forfeit " if "operator" in request.query else "weather music "
        site = f"https://x.example/{quote(request.query)}"
        return [{"title": f"Page {number}", "content": about * 400, "link": f"{site}/{number}"} for number in range(3)]

    provider.pages = long_pages
    analysis = await pipeline.run("AB-2", bill(4), "California", MODELS, max_rounds=0)
    assert analysis.parts == 1
    assert analysis.sources_left_out
    assert len(analysis.sources) > 1
    shown = {source.id for source in analysis.sources} - {"BILL"}
    assert not shown & {source.id for source in analysis.sources_left_out}
    # The last section's words decide.
    assert any("operator" in (source.url or "") for source in analysis.sources)
    assert not any("operator" in (source.url or "") for source in analysis.sources_left_out)
    assert any(f"{len(analysis.sources_left_out)} more did not fit here" in prompt for prompt in provider.prompts)
    assert provider.longest <= WINDOW


async def test_a_window_without_room(provider: Provider, db: Database, dsn: str) -> None:
    """A model whose window hardly holds the instructions is named, before anything is written."""
    async with LLMClient(prices=window(1_000)) as llm, WebSearchClient(None, db) as search:
        with pytest.raises(ContextWindowError, match=r"glm-5\.3 takes 1,000 tokens"):
            await AnalysisPipeline(llm, search, None, db).run("AB-1", bill(2), "California", MODELS)
    assert await rows(dsn, "SELECT id FROM public.pipeline_runs") == []
    assert not provider.asked


async def test_a_quote_is_of_the_part_that_was_read(pipeline: AnalysisPipeline, provider: Provider) -> None:
    """A sentence that stands in several parts is cited where the model read it; one of another part is no evidence."""
    text = bill(40).replace(LAST, f"The board of region 1 shall inspect each pump within 21 days. {LAST}")

    def cites_the_first_section(request: ChatRequest) -> Answer | Reply | Fault:
        if step_of(request) != "generate":
            return answer_chat(request)
        impact = '{"title": "Duty", "description": "Inspects pumps.", "affected": null, "amount_usd": null, '
        quotes = '"confidence": null, "citations": [{"source": "BILL", "quote": "region 1 shall inspect each pump"}]}'
        return Answer(
            f'{{"insufficient_evidence": false, "summary": "", "confidence": null, "impacts": [{impact}{quotes}]}}'
        )

    provider.answer = cites_the_first_section
    analysis = await pipeline.run("AB-40", text, "California", MODELS, max_rounds=0)
    (impact,) = analysis.impacts
    assert [text[cited.start : cited.end] for cited in impact.citations] == ["region 1 shall inspect each pump"] * 2
    assert impact.citations[0].start < 200
    assert impact.citations[1].start > len(text) - 400
    assert len(analysis.unsupported) == analysis.parts - 2
