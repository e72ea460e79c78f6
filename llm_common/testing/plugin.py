"""Fixtures for pytest, loaded in every run where this package is installed: `def test_it(fake_provider_env): ...`.

Only pytest and the standard library are imported here; what a fixture needs, it imports when it is used.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from llm_common.testing.server import FakeProvider

__all__ = ["fake_provider", "fake_provider_env"]

#: Variables that would lead a test past the fake provider: other names of the same keys and addresses, keys of
#: providers that LiteLLM would find, and proxies.
_LEADING_ASTRAY: Final = (
    "ANTHROPIC_API_BASE",
    "ANTHROPIC_AUTH_TOKEN",
    "AZURE_API_KEY",
    "COHERE_API_KEY",
    "DEEPSEEK_API_KEY",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GROQ_API_KEY",
    "MISTRAL_API_KEY",
    "OPENAI_API_BASE",
    "OPENAI_ORGANIZATION",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
    "OR_API_KEY",
    "TOGETHERAI_API_KEY",
    "XAI_API_KEY",
    "ZHIPUAI_API_KEY",
    "Z_AI_API_KEY",
)
_PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy"})


# The server has a thread and a loop of its own, so one plain fixture serves every test: sync, asyncio or anyio, with
# whichever async plugin the host has, or none.
@pytest.fixture
def fake_provider() -> "Iterator[FakeProvider]":
    """A running `FakeProvider`, new for each test."""
    from llm_common.testing.server import FakeProvider

    with FakeProvider.serve_in_thread() as provider:
        yield provider


@pytest.fixture
def fake_provider_env(fake_provider: "FakeProvider", monkeypatch: pytest.MonkeyPatch) -> "FakeProvider":
    """The same, with the environment leading there and nowhere else."""
    astray = [name for name in os.environ if name.lower() in _PROXIES]
    for name in (*_LEADING_ASTRAY, *astray):
        monkeypatch.delenv(name, raising=False)
    for name, value in fake_provider.environment().items():
        monkeypatch.setenv(name, value)
    return fake_provider


# --- database fixtures -----------------------------------------------------------------------------------------------
