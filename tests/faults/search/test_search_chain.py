"""A chain of search providers: who is asked, who is paid, what is kept, and what ends it."""

import asyncio
from decimal import Decimal

import psycopg
import pytest

from llm_common.exceptions import (
    BudgetExceededError,
    ConfigurationError,
    InvalidQueryError,
    SearchError,
    SearchQuotaError,
)
from llm_common.ledger.local import LocalLedger
from llm_common.models import Budget
from llm_common.search.fallback import seconds_to_rest
from llm_common.search.providers.local import Document, LocalProvider
from llm_common.testing import Fault, Reply
from llm_common.testing.search_services import FakeSearchServices, ServiceReply
from llm_common.web_search import RetryPolicy, WebSearchClient

QUICK = RetryPolicy(base_wait=0.001)
CHAIN = ["zai", "tavily"]


@pytest.fixture
async def services(fake_provider_env, monkeypatch):
    """The environment leads z.ai and the other services to loopback."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    async with FakeSearchServices() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
async def chain(services):
    async with WebSearchClient(provider=CHAIN, retries=QUICK, timeout=5) as client:
        yield client


async def test_the_first_answers_as_long_as_it_can(chain, services):
    """Nobody else is asked."""
    assert (await chain.lookup("q")).provider == "zai"
    assert services.requests == []


@pytest.mark.parametrize(
    "faults",
    [
        [Fault.zai_error("1113")],
        [Fault.zai_error("1308")],
        [Fault.unauthorized()],
        [Fault.zai_error("1301")],
        [Fault.server_error(503)] * 3,
        [Fault.reset_before_bytes()] * 3,
        [Fault.not_json()] * 3,
        [Fault.wrong_schema()],
    ],
    ids=["balance", "window", "key", "refused", "down", "reset", "not-json", "wrong-types"],
)
async def test_quota_outage_and_refusal_lead_to_the_next(chain, fake_provider, services, faults):
    """And the outcome says who answered."""
    fake_provider.script(*faults)
    outcome = await chain.lookup("q", 3)
    assert (outcome.provider, len(outcome.results), outcome.cached) == ("tavily", 3, False)
    assert len(fake_provider.requests) == len(faults)
    assert len(services.asked("tavily")) == 1


async def test_no_hits_are_an_answer(chain, fake_provider, services):
    """Nobody is paid to say it again."""
    fake_provider.script(Reply(results=()))
    outcome = await chain.lookup("q")
    assert (outcome.provider, outcome.results) == ("zai", ())
    assert services.requests == []


async def test_each_attempt_is_paid_under_its_own_name(services, fake_provider, db, dsn):
    """A failure that may be billed stays in the books beside the answer; the cache and the counters tell them apart."""
    fake_provider.script(Fault.wrong_schema())
    async with WebSearchClient(None, db, provider="zai, tavily", retries=QUICK) as search:
        await search.search("q")
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT provider, status, cost_usd FROM cost_tracking ORDER BY provider").fetchall()
        cached = connection.execute("SELECT provider FROM web_search_cache").fetchall()
        counted = connection.execute("SELECT provider, misses, errors FROM web_search_stats ORDER BY 1").fetchall()
    assert rows == [("tavily", "ok", Decimal("0.008")), ("zai", "failed", Decimal("0.01"))]
    assert cached == [("tavily",)]
    assert counted == [("tavily", 1, 0), ("zai", 0, 1)]


async def test_what_failed_rests_and_its_cache_is_still_used(services, fake_provider, db):
    """While the first rests, its own answers are served from both tiers, and the second is paid only for new ones."""
    async with WebSearchClient(None, db, provider=CHAIN, memory_cache_ttl=0) as search:
        await search.search("known")
        fake_provider.script(Fault.zai_error("1113"))
        assert (await search.lookup("new")).provider == "tavily"
        kept = await search.lookup("known")
        assert (kept.provider, kept.cached) == ("zai", True)
        assert (await search.lookup("newer")).provider == "tavily"
        again = await search.lookup("newer")
        assert (again.provider, again.cached) == ("tavily", True)
    assert len(fake_provider.requests) == 2
    assert len(services.asked("tavily")) == 2


async def test_after_its_rest_the_first_is_asked_again(chain, fake_provider, services):
    """Its answer is preferred to the cached one of the second: keys are the providers' own."""
    clock = [0.0]
    chain._fallback._clock = lambda: clock[0]
    fake_provider.script(Fault.zai_error("1113"))
    assert (await chain.lookup("q")).provider == "tavily"
    clock[0] = 299.0
    assert (await chain.lookup("q")).provider == "tavily"
    clock[0] = 301.0
    assert (await chain.lookup("q")).provider == "zai"


async def test_those_who_rest_are_asked_when_nobody_else_is_left(chain, fake_provider, services):
    """A rest spares time; it never makes a search fail that could succeed."""
    fake_provider.script(Fault.zai_error("1113"))
    await chain.search("one")
    services.script("tavily", ServiceReply({"detail": {"error": "limit"}}, 432))
    assert (await chain.lookup("two")).provider == "zai"


async def test_when_all_fail_each_is_heard(chain, fake_provider, services):
    """A quota error only if it is one everywhere."""
    fake_provider.script(Fault.zai_error("1113"), Fault.zai_error("1113"))
    services.script("tavily", ServiceReply({}, 433), ServiceReply({}, 400))
    with pytest.raises(SearchQuotaError, match=r"1113.*Tavily answered 433"):
        await chain.search("q")
    with pytest.raises(SearchError) as failure:
        await chain.search("q")
    assert not isinstance(failure.value, SearchQuotaError)


async def test_a_budget_and_a_bad_query_end_it(services, fake_provider):
    """Neither is the provider's fault."""
    ledger = LocalLedger([Budget(Decimal("0.009"))])  # enough for Tavily, not for z.ai
    async with WebSearchClient(provider=CHAIN, cost_tracker=ledger) as search:
        with pytest.raises(BudgetExceededError):
            await search.search("q")
        with pytest.raises(InvalidQueryError):
            await search.search("")
    assert fake_provider.requests == []
    assert services.requests == []


async def test_a_closed_client_asks_nobody_else(services, fake_provider):
    """What is cut off by closing is not begun again elsewhere."""
    fake_provider.script(Fault.stall())
    search = WebSearchClient(provider=CHAIN, timeout=60)
    lost = asyncio.create_task(search.search("q"))
    await fake_provider.arrived()
    for flight in search._fallback._providers[0]._cached._flights._by_loop.get().flying:
        flight.cancel()
    with pytest.raises(SearchError, match="closed"):
        await lost
    await search.aclose()
    assert services.requests == []


async def test_a_chain_may_mix_names_and_objects(services, fake_provider):
    """The last resort is at hand."""
    last = LocalProvider([Document("https://a.gov/1", "One", "a heat pump")])
    fake_provider.script(Fault.zai_error("1113"))
    services.script("exa", ServiceReply({}, 402))
    async with WebSearchClient(provider=["zai", "exa", last]) as search:
        assert (await search.lookup("heat")).provider == "local"


@pytest.mark.parametrize("provider", [[], "", "zai,bing", ["zai", "zai"], "zai,,tavily"])
def test_a_chain_that_is_none_is_refused(provider):
    """When the client is made."""
    with pytest.raises(ConfigurationError, match="search provider"):
        WebSearchClient("key", provider=provider)


def test_how_long_a_provider_rests():
    """Long where a human has to act, short after an outage, not at all where only the query was refused."""
    quota, key = SearchQuotaError("m", status=429), SearchError("m", status=401)
    down, busy = (
        SearchError("m", status=503, retryable=True),
        SearchError("m", status=429, retry_after=90, retryable=True),
    )
    query = SearchError("m", status=400)
    assert [seconds_to_rest(error) for error in (quota, key, down, busy, query)] == [300, 300, 30, 90, 0]
