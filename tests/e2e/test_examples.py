"""The examples, as a reader would run them: own processes, providers on loopback, rows in a real Postgres."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from llm_common.cost_tracker import CostMetrics, CostTracker
from llm_common.db import Database
from llm_common.testing import Answer, ChatRequest, FakeProvider, Fault
from llm_common.testing.analyst import answer_chat, answer_search

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """The server of `llm-common fake-provider`."""
    with FakeProvider.serve_in_thread(answer=answer_chat, search_answer=answer_search) as running:
        yield running


def run(example: str, provider: FakeProvider, dsn: str, *arguments: str, stdin: str = "", **env: str) -> str:
    """What the example printed; it must end well."""
    plain = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONWARNINGS": "error::ResourceWarning",
    }
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / example), *arguments],
        env=plain | provider.environment() | {"DATABASE_URL": dsn} | env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "ResourceWarning" not in finished.stderr
    assert provider.api_key not in finished.stdout + finished.stderr
    return finished.stdout


def rows(dsn: str, query: LiteralString) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def asked_models(provider: FakeProvider) -> list[str]:
    return [request.body["model"] for request in provider.requests if request.endpoint == "chat"]


def paths(output: str) -> list[str]:
    return [line.split()[1] for line in output.splitlines() if line.startswith("user-")]


def test_the_legislation_backend_analyses_a_bill(dsn: str, provider: FakeProvider) -> None:
    """One POST gives an analysis, and leaves the run, its steps and what they cost in the database."""
    output = run("legislation_api.py", provider, dsn)
    assert output.startswith("200 ")
    [(run_id, status, passed)] = rows(dsn, "SELECT id::text, status, review_passed FROM pipeline_runs")
    assert (status, passed) == ("completed", True)
    [(total,)] = rows(dsn, "SELECT sum(cost_usd) FROM cost_tracking WHERE project = 'affordabot'")
    assert total > 0
    assert f"'total_usd': '{total}'" in output
    assert {row[0] for row in rows(dsn, "SELECT DISTINCT run_id FROM cost_tracking")} == {run_id}
    assert {"zai/glm-5.3-flash", "zai/glm-5.3", "zai/glm-5.2"} == {f"zai/{model}" for model in asked_models(provider)}


def test_the_same_idempotency_key_asks_nobody_again(dsn: str, provider: FakeProvider) -> None:
    """A second start with the same key gives the stored analysis, and pays for nothing."""
    first = run("legislation_api.py", provider, dsn)
    asked = len(provider.requests)
    assert run("legislation_api.py", provider, dsn) == first
    assert len(provider.requests) == asked > 0


async def test_the_legislation_backend_says_why_it_refuses(dsn: str, db: Database, provider: FakeProvider) -> None:
    """A budget that is too small becomes a 402 with a sentence, and no model is asked."""
    await CostTracker(db, project="affordabot").log_cost(CostMetrics("earlier", "elsewhere", Decimal(10)))
    output = await asyncio.to_thread(run, "legislation_api.py", provider, dsn)
    assert output.startswith("402 ")
    assert "budget" in output
    assert provider.requests == []


def test_the_chat_streams_remembers_and_pays(dsn: str, provider: FakeProvider) -> None:
    """Two questions: both are answered and stored, the second one is asked with the first in its context."""
    output = run("finance_chat.py", provider, dsn, "--user", "ada", stdin="Is it cheap?\n\nWhat did I ask?\n")
    spoken = rows(dsn, "SELECT role, content FROM conversations WHERE user_id = 'ada' ORDER BY seq")
    assert [role for role, _ in spoken] == ["user", "assistant", "user", "assistant"]
    assert [spoken[0][1], spoken[2][1]] == ["Is it cheap?", "What did I ask?"]
    assert spoken[1][1] in output
    chats = [request.body for request in provider.requests if request.endpoint == "chat"]
    assert [chat["stream"] for chat in chats] == [True, True]
    assert {"role": "user", "content": "Is it cheap?"} in chats[1]["messages"]
    assert rows(dsn, "SELECT count(*) FROM cost_tracking WHERE step = 'chat' AND user_id = 'ada' AND cost_usd > 0") == [
        (2,)
    ]


def test_the_chat_remembers_across_starts_and_searches_once(dsn: str, provider: FakeProvider) -> None:
    """The next process knows what was said in the last one, and finds its sources in the cache."""
    run("finance_chat.py", provider, dsn, stdin="My daughter is called Ada.\n")
    searched = sum(request.endpoint == "search" for request in provider.requests)
    run("finance_chat.py", provider, dsn, stdin="What is she called?\n")
    assert sum(request.endpoint == "search" for request in provider.requests) == searched > 0
    assert "My daughter is called Ada." in str(provider.requests[-1].body["messages"])


def test_the_rollout_gives_some_users_the_new_path(dsn: str, provider: FakeProvider) -> None:
    """At 30 % some of twenty users are answered by the model, the others as before; all outcomes are stored."""
    output = run("rollout_new_path.py", provider, dsn)
    assert len(paths(output)) == 20
    new = paths(output).count("new")
    assert 0 < new < 20
    assert len(asked_models(provider)) == new
    assert rows(dsn, "SELECT arm, count(*) FROM rollout_outcomes WHERE ok GROUP BY arm ORDER BY arm") == [
        ("new", new),
        ("old", 20 - new),
    ]


def test_where_the_new_path_fails_the_old_one_answers(dsn: str, provider: FakeProvider) -> None:
    """A user whose model call fails gets the old path's answer, and the failure counts against the new one."""
    provider.script(Fault.unauthorized())
    output = run("rollout_new_path.py", provider, dsn, USE_NEW_LLM_FRAMEWORK_PERCENTAGE="100")
    assert paths(output) == ["old"] + ["new"] * 19
    assert "new: 20 calls, 1 failed" in output


def test_the_switch_gives_everybody_the_old_path(dsn: str, provider: FakeProvider) -> None:
    """With the flag set to false no model is asked."""
    output = run("rollout_new_path.py", provider, dsn, USE_NEW_LLM_FRAMEWORK="false")
    assert paths(output) == ["old"] * 20
    assert provider.requests == []


def fee_reader(request: ChatRequest) -> Answer:
    """Reads the prospectus like a model: two fees are true, one is invented, one changes its rate."""
    asked = set((request.schema or {}).get("properties", {}))
    if asked == {"queries"}:
        return Answer(json.dumps({"queries": ["Avalon index fund expense ratio"]}))
    if "passed" in asked:
        return Answer(json.dumps({"passed": True, "critique": "", "missing_impacts": [], "factual_errors": []}))
    fees = [
        ("Management fee", 0.11, None, "Management fees are 0.11 percent of the value of your investment"),
        ("Account service fee", None, 25, "are charged an account service fee of $25 each year"),
        ("Performance fee", 15, None, "a performance fee of 15 percent is charged"),
        ("Redemption fee", 2, None, "bear a redemption fee of 1 percent, which stays in the fund"),
    ]
    claims = [
        {
            "name": name,
            "charged": "each year",
            "condition": None,
            "percent": percent,
            "dollars": dollars,
            "confidence": 0.9,
            "citations": [{"source": "PROSPECTUS", "quote": quote}],
        }
        for name, percent, dollars, quote in fees
    ]
    return Answer(
        json.dumps({"insufficient_evidence": False, "summary": "Low fees.", "confidence": 0.9, "claims": claims})
    )


def test_another_subject_is_a_spec(dsn: str) -> None:
    """Fees of a fund: what the prospectus states is listed with its place, what it does not state is left out."""
    arguments = (str(EXAMPLES / "prospectuses" / "avalon-index.txt"), "--ticker", "AVTMX", "--country", "New Avalon")
    with FakeProvider.serve_in_thread(answer=fee_reader, search_answer=answer_search) as provider:
        output = run("fund_fees.py", provider, dsn, *arguments)
        asked = len(provider.requests)
        assert run("fund_fees.py", provider, dsn, *arguments) == output
        assert len(provider.requests) == asked
        temperatures = [request.body.get("temperature") for request in provider.requests if request.endpoint == "chat"]
    assert "Management fee, each year: 0.11 %" in output
    assert "Account service fee, each year: $25.00" in output
    assert "left out: Performance fee" in output
    assert "Redemption fee, each year: no rate stated" in output
    assert "the percent 2.0 is not in its quotes" in output
    assert temperatures[:3] == [None, 0.1, 0.0]
    stored = rows(dsn, "SELECT bill_id, analysis_json -> 'claims' -> 0 ->> 'percent', code_version FROM pipeline_runs")
    ((ticker, percent, version),) = stored
    assert (ticker, percent) == ("AVTMX", "0.11")
    assert version.startswith("fund-fees@")
