"""The pytest plugin: free for those who do not use it, and there for every kind of test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from llm_common.testing import FakeProvider

HOST_TESTS = """
import json, os, urllib.request

def ask():
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]

def test_sync(fake_provider_env):
    fake_provider_env.script("scripted")
    assert ask() == "scripted"
    assert fake_provider_env.requests[0].outcome == "answered"
    assert "Z_AI_API_KEY" not in os.environ
    assert "https_proxy" not in os.environ

def test_each_test_has_its_own(fake_provider):
    assert fake_provider.requests == []
"""
ANYIO_TESTS = """
import pytest

@pytest.mark.anyio
async def test_async(fake_provider):
    fake_provider.script("x")
    assert fake_provider.unused == 1

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def _pytest(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(folder)]
    environment = {**os.environ, "Z_AI_API_KEY": "real", "https_proxy": "http://192.0.2.1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_sync_tests_without_an_async_plugin(tmp_path: Path) -> None:
    """A host without any async plugin gets a running provider and a clean environment."""
    (tmp_path / "test_host.py").write_text(HOST_TESTS)
    assert "2 passed" in _pytest(tmp_path, "-p", "no:asyncio", "-p", "no:anyio")


def test_anyio_tests(tmp_path: Path) -> None:
    """A host with anyio's plugin gets it too."""
    (tmp_path / "test_host.py").write_text(ANYIO_TESTS)
    assert "1 passed" in _pytest(tmp_path, "-p", "no:asyncio")


async def test_asyncio_tests(fake_provider_env: FakeProvider, http: aiohttp.ClientSession) -> None:
    """And so does a test under pytest-asyncio."""
    url = f"{os.environ['ZAI_API_BASE']}/web_search"
    body = {"search_query": "q", "search_engine": "search-prime", "count": 1}
    headers = {"Authorization": f"Bearer {os.environ['ZAI_API_KEY']}"}
    async with http.post(url, json=body, headers=headers) as response:
        assert len((await response.json())["search_result"]) == 1
    assert fake_provider_env.requests[0].provider == "zai"


@pytest.mark.parametrize("module", ["llm_common.testing", "llm_common.testing.plugin"])
def test_importing_costs_nothing(module: str) -> None:
    """The plugin, and the package that it lives in, import nothing but pytest and the standard library."""
    code = f"""
import json, sys, pytest
before = set(sys.modules)
import {module}

pytestmark = pytest.mark.slow
print(json.dumps(sorted({{name.split('.')[0] for name in set(sys.modules) - before}})))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    new = set(json.loads(done.stdout)) - set(sys.stdlib_module_names)
    assert new <= {"llm_common"}
