"""The README does what it says: its Python runs, its commands run, in a fresh clone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llm_common.search.providers.registry import SERVICES
from llm_common.testing import FakeProvider
from llm_common.testing.analyst import answer_chat, answer_search

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_of_the_readme_runs(dsn):
    """The tour through all parts runs as it is printed, and its calls are in the ledger."""
    (tour,) = blocks("python")
    program = f"{tour}\nimport asyncio\nasyncio.run(main())\n"
    with FakeProvider.serve_in_thread(answer=answer_chat, search_answer=answer_search) as provider:
        env = {**os.environ, **provider.environment(), "DATABASE_URL": dsn}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program], env=env, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert "completed" in done.stdout
    assert "zai/glm-5.3-flash" in done.stdout.splitlines()[-1]


def test_the_settings_of_the_readme_are_those_that_are_read():
    """No variable is missing from the table, and none is in it that nobody reads."""
    section = README.split("## Settings")[1].split("\n## ")[0]
    listed = set(re.findall(r"`([A-Z_]{6,})`", section))
    source = (ROOT / "llm_common/settings.py").read_text()
    of_search = {name for facts in SERVICES.values() for name in (*facts.key_variables, *facts.url_variables)}
    assert listed == of_search | set(re.findall(r'"([A-Z_]{6,})"', source)) - {"PROVIDER_KEYS", "PROVIDER_URLS"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The working tree as a fresh clone would have it: without .venv, caches and what git ignores."""
    folder = tmp_path / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def test_the_commands_of_the_readme_run_in_a_fresh_clone(clone, tmp_path):
    """`make demo` sets everything up and analyses a bill; the commands after it find what it left."""
    first, second, *_ = blocks("sh")
    assert first.splitlines()[0].startswith("make demo ")
    keys = ("OPENAI_API_KEY", "OPENROUTER_API_KEY", "ZAI_API_KEY", "Z_AI_API_KEY", "ANTHROPIC_API_KEY", "DATABASE_URL")
    env = {name: value for name, value in os.environ.items() if name not in keys and not name.startswith("LLM_COMMON")}
    env["LLM_COMMON_DATA_DIR"] = str(tmp_path / "data")

    def shell(command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=clone, env=env, capture_output=True, text=True, timeout=500, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    try:
        assert "total cost: $0." in shell("make demo")
        shown = [shell(line) for line in second.splitlines()]
        assert "of them from the cache" in shell("make demo")
    finally:
        shell(".venv/bin/llm-common db stop")
    assert "HB-77" in shown[1]
    assert "AB-1234" in shown[1]
    assert "zai/glm-5.3" in shown[2]
    assert "schema" in shown[3]
