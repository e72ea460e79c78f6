"""`llm-common cache`, as a process."""

import asyncio
import json

import pytest

from llm_common.testing import FakeProvider
from llm_common.web_search import WebSearchClient
from tests.support.command_line import llm_common


def cache(dsn, *arguments, stdin=""):
    return llm_common("cache", *arguments, "--database-url", dsn, stdin=stdin.encode())


@pytest.fixture
def searched(dsn, fake_provider_env: FakeProvider):
    """A database where three queries were searched, one of them twice."""

    async def search() -> None:
        async with WebSearchClient(None, dsn) as client:
            for query in ("SB 1", "SB 2", "HB 1", "sb  1"):
                await client.search(query)

    asyncio.run(search())
    return dsn


def test_the_statistics_are_shown(searched):
    """In all, by provider and by day; money as dollars."""
    shown = cache(searched, "stats")
    assert shown.returncode == 0, shown.stderr
    heading, total, provider, *_ = shown.stdout.splitlines()
    assert heading.split() == (
        ["searches", "hit", "rate", "memory", "postgres", "stale", "coalesced", "misses", "errors", "spent", "saved"]
    )
    assert total.split() == ["all", "4", "25.0%", "1", "0", "0", "0", "3", "0", "$0.030000", "$0.010000"]
    assert provider.split()[0] == "zai"
    assert "entries in Postgres: 3" in shown.stdout


def test_the_statistics_are_json_too(searched):
    """One document, with money as exact decimal strings."""
    told = json.loads(cache(searched, "stats", "--json").stdout)
    assert (told["total_searches"], told["memory_hits"], told["entries"]) == (4, 1, 3)
    assert (told["spent_usd"], told["by_provider"]["zai"]["saved_usd"]) == ("0.030000000", "0.010000000")
    assert len(told["by_day"]) == 1


def test_one_query_is_forgotten_in_any_spelling(searched):
    """And those that begin alike."""
    assert "forgot 1 " in cache(searched, "clear", "--query", "Sb   1").stderr
    assert "forgot 1 " in cache(searched, "clear", "--prefix", "sb").stderr
    assert json.loads(cache(searched, "stats", "--json").stdout)["entries"] == 1


def test_everything_is_forgotten_only_when_it_is_meant(searched):
    """Without --yes it asks first, and no means no."""
    refused = cache(searched, "clear", stdin="n\n")
    assert refused.returncode == 1
    assert json.loads(cache(searched, "stats", "--json").stdout)["entries"] == 3
    assert "forgot 3 " in cache(searched, "clear", stdin="y\n").stderr
    assert "forgot 0 " in cache(searched, "clear", "--yes").stderr


@pytest.mark.parametrize("arguments", [("--query", "a", "--prefix", "b"), ("--query", " "), ("--prefix", "")])
def test_what_cannot_be_meant_is_refused(searched, arguments):
    """An empty prefix would be everything."""
    refused = cache(searched, "clear", *arguments)
    assert refused.returncode == 2
    assert "error:" in refused.stderr
    assert json.loads(cache(searched, "stats", "--json").stdout)["entries"] == 3


def test_without_the_tables_it_says_what_to_run(empty_dsn):
    """A sentence and exit code 2."""
    refused = cache(empty_dsn, "stats")
    assert refused.returncode == 2
    assert "migrate" in refused.stderr


def test_the_commands_explain_themselves():
    """`--help` needs no database."""
    for command in ("stats", "clear"):
        shown = cache("postgresql://nobody@127.0.0.1:1/none", command, "--help")
        assert shown.returncode == 0
        assert "Usage" in shown.stdout
