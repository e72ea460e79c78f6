"""A host as it is out there: our repository as a git submodule, a plain `pip install -e`, the imports it always had."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from llm_common.models import ToolCall
from llm_common.testing import FakeProvider, Reply

ROOT = Path(__file__).parents[2]

# Migrates, asks over both wires, searches, and prints what it saw as JSON.
HOST = """
from llm_common import LLMClient, WebSearchClient, CostTracker, ConversationMemory, AnalysisPipeline
from llm_common import Database, Rollout
from llm_common.llm_client import LLMClient, AllModelsFailed, BudgetExceededError
from llm_common.web_search import WebSearchClient, SearchResult
from llm_common.cost_tracker import CostTracker, CostMetrics
from llm_common.exceptions import LLMError, BudgetExceededError, RateLimitError, AllModelsFailed, SearchError

import asyncio, json
from importlib.metadata import version

import llm_common

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}

async def main():
    async with Database.connect() as db:
        applied = await db.migrate()
        tracker = CostTracker(db, daily_budget_usd=5, project="host")
        async with LLMClient(cost_tracker=tracker) as llm, WebSearchClient(None, db, cost_tracker=tracker) as search:
            text = await llm.chat("Hello?", "openai/gpt-6-luna", step="hello")
            tools = [
                (await llm.complete("Weather in Oslo?", model, tools=[WEATHER], step="tools")).tool_calls
                for model in ("openai/gpt-6-luna", "anthropic/claude-haiku-5-5")
            ]
            found = await search.search("host project", count=2)
        print(json.dumps({
            "installed_at": llm_common.__file__,
            "applied": applied,
            "text": text,
            "tools": [[(call.name, call.arguments) for call in calls] for calls in tools],
            "found": [result.model_dump() for result in found],
            "daily_cost": str(await tracker.get_daily_cost()),
            "litellm": version("litellm"),
        }))

asyncio.run(main())
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A git repository with the working tree, as it is now, at packages/llm-common, and an empty venv."""
    ours = tmp_path / "llm_common.git"
    listed = run("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).exists():  # deleted, but not committed
            (ours / name).parent.mkdir(parents=True, exist_ok=True)
            (ours / name).write_bytes((ROOT / name).read_bytes())
    folder = tmp_path / "host"
    folder.mkdir()
    for repository in (ours, folder):
        git(repository, "init", "--quiet")
    git(ours, "add", "--all")
    git(ours, "commit", "--quiet", "--message", "the working tree")
    git(folder, "-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(ours), "packages/llm-common")
    run(sys.executable, "-m", "venv", str(folder / ".venv"), cwd=folder)
    return folder


def git(folder: Path, *arguments: str) -> None:
    run("git", "-c", "user.name=Host", "-c", "user.email=host@example.com", *arguments, cwd=folder)


def run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    finished = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert finished.returncode == 0, f"{command}\n{finished.stdout[-2000:]}\n{finished.stderr[-4000:]}"
    return finished.stdout


def require_an_index(pip: Path) -> None:
    asked = subprocess.run(
        [pip, "--retries", "1", "--timeout", "30", "index", "versions", "litellm"],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode != 0:
        pytest.skip(f"no package index answers here: {asked.stderr.strip().splitlines()[-1]}")


def test_a_host_that_installs_us_can_do_its_work(host: Path, empty_dsn: str, fake_provider: FakeProvider) -> None:
    """What `pip install -e` resolves without our lock migrates, chats, calls tools over both wires, and records."""
    python = host / ".venv/bin/python"
    require_an_index(host / ".venv/bin/pip")
    # Plain but for the byte code of all those packages, which takes longer than the test.
    run(str(python), "-m", "pip", "install", "--quiet", "--no-compile", "-e", "packages/llm-common", cwd=host)
    (host / "app.py").write_text(HOST)
    weather = Reply(tool_calls=(ToolCall("call_1", "weather", '{"city": "Oslo"}'),))
    fake_provider.script("Hello, host.", weather, weather)

    env = {"PATH": os.environ["PATH"], "HOME": str(host), "DATABASE_URL": empty_dsn, **fake_provider.environment()}
    seen = json.loads(run(str(python), "app.py", cwd=host, env=env))

    assert seen["installed_at"] == str(host / "packages/llm-common/llm_common/__init__.py")
    assert seen["applied"] == sorted(file.name for file in (ROOT / "migrations").glob("*.sql"))
    assert seen["text"] == "Hello, host."
    for calls in seen["tools"]:
        [(name, arguments)] = calls
        assert (name, json.loads(arguments)) == ("weather", {"city": "Oslo"})
    assert len(seen["found"]) == 2
    assert tuple(int(part) for part in seen["litellm"].split(".")[:2]) >= (1, 105)
    with psycopg.connect(empty_dsn) as connection:
        recorded = connection.execute(
            "SELECT model, step, status, cost_usd > 0, project FROM cost_tracking ORDER BY timestamp"
        ).fetchall()
        spent = connection.execute("SELECT sum(cost_usd) FROM cost_tracking").fetchone()
    assert recorded == [
        ("openai/gpt-6-luna", "hello", "ok", True, "host"),
        ("openai/gpt-6-luna", "tools", "ok", True, "host"),
        ("anthropic/claude-haiku-5-5", "tools", "ok", True, "host"),
        ("zai/search-prime", None, "ok", True, "host"),
    ]
    assert spent is not None
    assert seen["daily_cost"] == str(spent[0])
