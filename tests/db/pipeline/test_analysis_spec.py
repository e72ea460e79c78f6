"""A subject of one's own, from end to end."""

import json
from collections.abc import AsyncGenerator, Iterator

import pytest

from llm_common import AnalysisPipeline, Database, LLMClient, WebSearchClient
from llm_common.exceptions import InvalidInputError, LLMError, PipelineError
from llm_common.llm.breaker import Breakers
from llm_common.pipeline import LEGISLATION, Analysis, AnalysisSpec, Claim, Prompts, StepSettings
from llm_common.pipeline.result import result_from_run
from llm_common.testing import Answer, ChatRequest, FakeProvider, Fault
from llm_common.testing.analyst import answer_search

MODEL = "openrouter/z-ai/glm-5.3"
MODELS = {"research": MODEL, "generate": MODEL, "review": MODEL}
TEXT = "The fund may lend its shares. The manager votes for the shares that the fund holds."


class Risk(Claim):
    title: str


PROMPTS = Prompts(role="You read prospectuses.", research="{subject}", draft="List risks.", review="Check the risks.")
RISKS = AnalysisSpec(
    name="risks",
    result=Analysis[Risk],
    document="PROSPECTUS",
    prompts=PROMPTS,
    steps={"generate": StepSettings(temperature=0.2, max_tokens=700, extra={"seed": 7})},
)
OTHER = AnalysisSpec(name="voting", result=Analysis[Risk], document="PROSPECTUS", prompts=PROMPTS)


def answer(request: ChatRequest) -> Answer:
    asked = set((request.schema or {}).get("properties", {}))
    if asked == {"queries"}:
        return Answer(json.dumps({"queries": []}))
    if "passed" in asked:
        return Answer(json.dumps({"passed": True, "critique": "", "missing_impacts": [], "factual_errors": []}))
    claim = {"title": "Lending", "citations": [{"source": "PROSPECTUS", "quote": "The fund may lend its shares"}]}
    return Answer(
        json.dumps({"insufficient_evidence": False, "summary": "It lends.", "confidence": 0.5, "claims": [claim]})
    )


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    with FakeProvider.serve_in_thread(answer=answer, search_answer=answer_search) as fake:
        for name, value in fake.environment().items():
            monkeypatch.setenv(name, value)
        yield fake


@pytest.fixture
async def clients(provider: FakeProvider, db: Database) -> AsyncGenerator[tuple[LLMClient, WebSearchClient]]:
    async with LLMClient(breakers=Breakers()) as llm, WebSearchClient(None, db) as search:
        yield llm, search


async def test_a_result_of_the_hosts_own_type(
    clients: tuple[LLMClient, WebSearchClient], provider: FakeProvider, db: Database
) -> None:
    """The claims come back as the host's class, the settings reach the provider, and the stored run reads the same."""
    pipeline = AnalysisPipeline(*clients, None, db, spec=RISKS)
    analysis = await pipeline.run("AVTMX", TEXT, "New Avalon", MODELS, idempotency_key="k")
    (risk,) = analysis.claims
    assert type(risk) is Risk
    assert (analysis.subject_id, analysis.context, risk.title) == ("AVTMX", "New Avalon", "Lending")
    generate = provider.requests[1].body
    assert (generate["temperature"], generate["max_tokens"], generate["seed"]) == (0.2, 700, 7)
    assert "temperature" not in provider.requests[0].body
    assert await pipeline.resume(analysis.run_id) == analysis
    with pytest.raises(PipelineError, match="is of the spec 'risks'"):
        result_from_run(await db.runs.get(analysis.run_id), LEGISLATION)


async def test_specs_do_not_mix(
    clients: tuple[LLMClient, WebSearchClient], provider: FakeProvider, db: Database
) -> None:
    """A run is neither resumed nor found by its key by a pipeline of another spec, and stays as it was."""
    provider.script(Fault.unauthorized(), endpoint="chat")
    pipeline = AnalysisPipeline(*clients, None, db, spec=RISKS)
    with pytest.raises(LLMError):
        await pipeline.run("AVTMX", TEXT, "New Avalon", MODELS, idempotency_key="k")
    (before,) = await db.runs.list()
    other = AnalysisPipeline(*clients, None, db, spec=OTHER)
    with pytest.raises(PipelineError, match="is of the spec 'risks', not of 'voting'"):
        await other.resume(before.id)
    with pytest.raises(InvalidInputError, match="text, models or settings are others"):
        await other.run("AVTMX", TEXT, "New Avalon", MODELS, idempotency_key="k")
    assert (await db.runs.list())[0] == before
    assert (await pipeline.resume(before.id)).status == "completed"
