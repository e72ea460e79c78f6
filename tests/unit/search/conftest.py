import pytest

from llm_common.web_search import WebSearchClient


@pytest.fixture
async def search(fake_provider_env, monkeypatch):
    """A client without a database, against the fake provider."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    async with WebSearchClient() as client:
        yield client
