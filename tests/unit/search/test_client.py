import asyncio
import json
import logging
import os
import subprocess
import sys
from decimal import Decimal

import pytest

from llm_common._runtime.memory_cache import MemoryCache
from llm_common.exceptions import BudgetExceededError, ConfigurationError, InvalidQueryError, SearchError
from llm_common.ledger.local import LocalLedger
from llm_common.models import Budget
from llm_common.search.providers.local import Document, LocalProvider
from llm_common.testing import Fault, Reply
from llm_common.web_search import RetryPolicy, SearchResult, WebSearchClient

HIT = {"title": "T", "content": "S", "link": "https://www.irs.gov/x", "publish_date": "22小时前"}
CENT = 10_000_000


def bodies(provider):
    return [request.body for request in provider.requests]


async def test_a_search_is_what_the_service_documents(search, fake_provider):
    """Path, key and body are z.ai's, and the results are read from its answer."""
    results = await search.search("SB 277  impact", 3, ["irs.gov"], "1w")
    (request,) = fake_provider.requests
    assert (request.method, request.path, request.outcome) == ("POST", "/api/paas/v4/web_search", "answered")
    assert request.body == {
        "search_query": "SB 277 impact",
        "search_engine": "search-prime",
        "count": 3,
        "search_domain_filter": "irs.gov",
        "search_recency_filter": "oneWeek",
    }
    assert [result.domain for result in results] == ["irs.gov"] * 3
    assert results[0].title == "Sb 277 impact: report 1"


async def test_equivalent_queries_are_asked_once(search, fake_provider):
    """Spacing, case and the order of domains do not cost a second search."""
    first = await search.search("Heat  Pumps", domains=["b.gov", "a.gov"])
    assert await search.search("heat pumps", domains=["a.gov", "b.gov"]) == first
    assert len(fake_provider.requests) == 2  # one for each domain


async def test_different_queries_are_asked_each(search, fake_provider):
    """Text, count, domain and recency each make a different search."""
    await search.search("q")
    await search.search("q!")
    await search.search("q", 11)
    await search.search("q", domains=["a.gov"])
    await search.search("q", recency="1d")
    assert len(fake_provider.requests) == 5


async def test_a_hosts_edit_does_not_reach_the_cache(search):
    """Lists are copies, results are frozen."""
    first = await search.search("q")
    kept = list(first)
    first.clear()
    first.append(SearchResult(title="mine", url="https://a.b", snippet=""))
    assert await search.search("q") == kept


async def test_two_hundred_callers_cost_one_search(search, fake_provider):
    """However many ask at once, one request goes out and one is paid."""
    fake_provider.script(Reply(results=(HIT,), delay=0.05))
    answers = await asyncio.gather(*(search.search("q") for _ in range(200)))
    assert all(answer == answers[0] for answer in answers)
    assert len(fake_provider.requests) == 1
    assert search.ledger.spent_today_nano == CENT
    stats = await search.get_cache_stats()
    assert (stats["misses"], stats["coalesced"], stats["total_searches"]) == (1, 199, 200)


async def test_a_cancelled_leader_cancels_nobody(search, fake_provider):
    """The others get the answer, and the cancelled one's request is not sent again."""
    fake_provider.script(Reply(results=(HIT,), delay=0.1))
    leader, *others = [asyncio.create_task(search.search("q")) for _ in range(5)]
    await fake_provider.arrived()
    leader.cancel()
    answers = await asyncio.gather(*others)
    assert all(len(answer) == 1 for answer in answers)
    assert leader.cancelled()
    assert len(fake_provider.requests) == 1


async def test_when_all_have_left_the_answer_is_kept(search, fake_provider):
    """It was paid for, so the next caller gets it from memory."""
    fake_provider.script(Reply(results=(HIT,), delay=0.1))
    task = asyncio.create_task(search.search("q"))
    await fake_provider.arrived()
    task.cancel()
    await asyncio.wait({task})
    assert len(await search.search("q")) == 1
    assert len(fake_provider.requests) == 1


async def test_no_hits_are_an_empty_list_that_is_kept_shortly(fake_provider_env, monkeypatch):
    """An empty answer is cached, but only for its own short time."""
    fake_provider_env.script(Reply(results=()), Reply(results=(HIT,)))
    async with WebSearchClient(empty_cache_ttl=0.05) as search:
        assert await search.search("q") == []
        assert await search.search("q") == []
        assert len(fake_provider_env.requests) == 1
        await asyncio.sleep(0.06)
        assert len(await search.search("q")) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault.not_json(),
        Fault.wrong_schema(),
        Fault.empty_content(),
        Fault.truncated_json(),
        Fault.wrong_content_type(),
    ],
)
async def test_an_answer_that_cannot_be_read_is_an_error_and_not_cached(fake_provider_env, fault):
    """Never `[]`; the next search asks again, and it is charged, for the provider did its work."""
    fake_provider_env.script(fault)
    async with WebSearchClient(retries=RetryPolicy(max_attempts=1)) as search:
        with pytest.raises(SearchError):
            await search.search("q")
        assert search.ledger.spent_today_nano == CENT
        assert len(await search.search("q")) == 10
    assert len(fake_provider_env.requests) == 2


async def test_bad_items_are_skipped_and_counted(search, fake_provider):
    """One unreadable item does not cost the others, and is seen in outcome and statistics."""
    fake_provider.script(Reply(results=(HIT, {"link": 7}, {"title": "no link"})))
    outcome = await search.lookup("q")
    assert (len(outcome.results), outcome.skipped, outcome.cached) == (1, 2, False)
    assert (await search.lookup("q")).cached
    assert (await search.get_cache_stats())["skipped_items"] == 2


async def test_the_outcome_says_who_filtered(search, fake_provider):
    """Plain domains at the provider, wildcards here."""
    fake_provider.script(Reply(results=(HIT, HIT | {"link": "https://example.com/y"})))
    outcome = await search.lookup("q", domains=["*.gov"], recency="1y")
    assert [result.domain for result in outcome.results] == ["irs.gov"]
    assert (outcome.provider_filters, outcome.local_filters) == (("recency=1y",), ("domain=*.gov",))


async def test_a_bad_argument_sends_nothing(search, fake_provider):
    """Not even a reservation is made."""
    for arguments in [("",), ("q", 0), ("q", 5, ["https://irs.gov"]), ("q", 5, None, "2w"), ("x" * 2**20,)]:
        with pytest.raises(InvalidQueryError):
            await search.search(*arguments)
    assert fake_provider.requests == []


async def test_a_missing_key_is_said_at_the_first_search(monkeypatch):
    """Making the client is free; the message names the variables."""
    for name in ("ZAI_API_KEY", "Z_AI_API_KEY", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    async with WebSearchClient() as search:
        with pytest.raises(ConfigurationError, match="ZAI_API_KEY or Z_AI_API_KEY"):
            await search.search("q")


@pytest.mark.parametrize(
    "arguments",
    [
        {"provider": "bing"},
        {"memory_cache_ttl": -1},
        {"db_cache_ttl": float("nan")},
        {"timeout": 0},
        {"lease_seconds": 0},
    ],
)
def test_a_wrong_argument_is_refused_at_once(arguments):
    """Before anything is searched."""
    with pytest.raises(ConfigurationError):
        WebSearchClient("key", **arguments)


async def test_a_search_that_does_not_fit_the_budget_is_not_sent(fake_provider_env):
    """The worst case is reserved before; a cached answer costs nothing and always fits."""
    ledger = LocalLedger([Budget(Decimal("0.015"))])
    async with WebSearchClient(cost_tracker=ledger) as search:
        await search.search("one")
        with pytest.raises(BudgetExceededError):
            await search.search("two")
        await search.search("one")
    assert len(fake_provider_env.requests) == 1
    assert ledger.spent_today_nano == CENT


async def test_a_followers_budget_is_its_own(search, fake_provider):
    """The leader's budget refusing does not refuse those who can pay."""
    poor, rich = LocalLedger([Budget(Decimal(0))]), LocalLedger()
    outcomes = await asyncio.gather(
        search.search("q", ledger=poor), *(search.search("q", ledger=rich) for _ in range(3)), return_exceptions=True
    )
    assert isinstance(outcomes[0], BudgetExceededError)
    assert [len(outcome) for outcome in outcomes[1:]] == [10, 10, 10]
    assert (rich.spent_today_nano, len(fake_provider.requests)) == (CENT, 1)


async def test_the_price_can_be_set(fake_provider_env):
    """Spent and saved money follow it."""
    async with WebSearchClient(price_usd=Decimal("0.002")) as search:
        await search.search("q")
        await search.search("q")
        stats = await search.get_cache_stats()
    assert (stats["spent_usd"], stats["saved_usd"]) == (Decimal("0.002"), Decimal("0.002"))
    assert stats["hit_rate"] == 0.5


async def test_a_client_that_records_nothing_says_so_once(search, caplog):
    """One warning, not one per search."""
    with caplog.at_level(logging.WARNING, "llm_common"):
        await search.search("one")
        await search.search("two")
    assert [r.getMessage() for r in caplog.records if "recorded nowhere" in r.getMessage()] == [
        "searches are recorded nowhere: set DATABASE_URL, or pass a database or a cost_tracker"
    ]


def test_one_client_serves_several_event_loops(fake_provider_env, monkeypatch):
    """A session belongs to its loop, so each loop has one."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    client = WebSearchClient()

    async def once(query):
        async with client:
            return await client.search(query)

    assert len(asyncio.run(once("one"))) == 10
    assert len(asyncio.run(once("two"))) == 10
    assert len(asyncio.run(once("one"))) == 10
    assert len(fake_provider_env.requests) == 2


async def test_many_searches_report_each_query(search, fake_provider):
    """In order; one failure sinks no other; progress is told."""
    progress = []
    outcomes = await search.search_many(
        ["one", "", "two"], 2, on_progress=lambda done, total: progress.append((done, total))
    )
    assert [(o.query, o.status, len(o.results)) for o in outcomes] == [
        ("one", "ok", 2),
        ("", "failed", 0),
        ("two", "ok", 2),
    ]
    assert isinstance(outcomes[1].error, InvalidQueryError)
    assert progress == [(1, 3), (2, 3), (3, 3)]


async def test_what_is_late_does_not_hold_up_the_rest(search, fake_provider):
    """After the timeout the rest is `late`; its answer is there the next time."""
    await search.search("known")
    fake_provider.script(Reply(results=(HIT,), delay=0.5))
    late, ok, begun_late = await search.search_many(["slow", "known", "KNOWN"], concurrency=2, timeout=0.1)
    assert [one.status for one in (late, ok, begun_late)] == ["late", "ok", "ok"]
    await fake_provider.settled()
    assert [len(o.results) for o in await search.search_many(["slow"], timeout=5)] == [1]
    assert [r.body["search_query"] for r in fake_provider.requests].count("slow") == 1


class Counting(LocalLedger):
    """Counts how many searches are under way, and how many were at most."""

    running, most = 0, 0

    async def reserve(self, call):
        self.running += 1
        self.most = max(self.most, self.running)
        return await super().reserve(call)

    async def settle(self, reservation, outcome):
        self.running -= 1
        await super().settle(reservation, outcome)


async def test_at_most_concurrency_searches_run_at_once(search, fake_provider):
    """Twenty queries, three at a time."""
    ledger = Counting()
    outcomes = await search.search_many([f"q{i}" for i in range(20)], concurrency=3, ledger=ledger)
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert ledger.most == 3


@pytest.mark.slow
async def test_a_crowd_of_many_searches_waits_for_its_turn(search, fake_provider):
    """Many runs at once search two hundred queries at a time between them, and all of them are answered."""
    fake_provider.script(*[Reply(results=(HIT,), delay=1.5)] * 200)
    ledger, arrived = Counting(), []
    crowd = [[f"q{run}-{number}" for number in range(100)] for run in range(3)]

    def first(_done, _total):
        arrived.append(len(fake_provider.requests))

    outcomes = await asyncio.gather(
        *(search.search_many(queries, concurrency=100, ledger=ledger, on_progress=first) for queries in crowd)
    )
    assert {outcome.status for many in outcomes for outcome in many} == {"ok"}
    assert ledger.most == 200
    # None of the two hundred waited for a connection while it had its turn.
    assert arrived[0] == 200


async def test_a_progress_callback_that_raises_is_heard(search):
    """A host's mistake is not swallowed."""

    def broken(_done, _total):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        await search.search_many(["one", "two"], on_progress=broken)


async def test_invalidation_makes_the_next_search_ask(search, fake_provider):
    """By query in any spelling, by prefix, and for all."""
    for query in ("SB 277", "SB 278", "HB 1"):
        await search.search(query)
    assert await search.invalidate("sb  277") == 1
    assert await search.invalidate_prefix("SB") == 1
    assert await search.clear() == 1
    await search.search("SB 277")
    assert len(fake_provider.requests) == 4


async def test_a_fetch_under_way_does_not_survive_an_invalidation(search, fake_provider):
    """Its own callers get it, later ones do not."""
    fake_provider.script(Reply(results=(HIT,), delay=0.1))
    early = asyncio.create_task(search.search("q"))
    await fake_provider.arrived()
    await search.invalidate("q")
    assert len(await search.search("q")) == 10
    assert len(await early) == 1
    assert len(await search.search("q")) == 10


async def test_a_local_provider_needs_no_network(monkeypatch, tmp_path, caplog):
    """Files of a folder are found by their words, best first, filtered like any other."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (tmp_path / "heat.md").write_text(
        "url: https://energy.ca.gov/heat\n# Heat pumps\n\nRebates for heat pumps are paid."
    )
    (tmp_path / "other.txt").write_text("url: https://example.com/o\nOther\n\nA heat wave, no pumps.")
    (tmp_path / "none of it.txt").write_text("School lunches")
    (tmp_path / "page.txt").write_text("<!DOCTYPE html><p>heat pumps</p>")
    (tmp_path / "binary.md").write_bytes(b"heat pumps \x00\xff")
    (tmp_path / "empty.md").write_text("")
    async with WebSearchClient(provider="local", base_url=str(tmp_path)) as search:
        results = await search.search("heat pump rebates pumps")
        assert [r.domain for r in results] == ["energy.ca.gov", "example.com"]
        assert (results[0].title, results[0].snippet) == ("Heat pumps", "Rebates for heat pumps are paid.")
        assert results[0].relevance_score > results[1].relevance_score
        only = await search.lookup("heat pumps", domains=["*.gov"])
        assert ([r.domain for r in only.results], only.local_filters) == (["energy.ca.gov"], ("domain=*.gov",))
        assert await search.search("zebra") == []
        assert [r.url for r in await search.search("school")] == ["https://local.invalid/none%20of%20it.txt"]
    assert caplog.text.count("a file is not searched") == 3


async def test_a_provider_of_the_host_is_used_as_it_is(monkeypatch):
    """Anything like `SearchProvider` will do."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    provider = LocalProvider([Document("https://a.gov/1", "One", "a heat pump")])
    async with WebSearchClient(provider=provider) as search:
        assert [r.url for r in await search.search("heat")] == ["https://a.gov/1"]


async def test_the_key_stays_secret(search, fake_provider, caplog):
    """Neither results, statistics, errors, reprs nor logs show the key or the query."""
    secret_query = "a question that nobody may see"
    fake_provider.script(Fault.unauthorized())
    with caplog.at_level(logging.DEBUG), pytest.raises(SearchError) as failure:
        await search.search(secret_query)
    stats = json.dumps(await search.get_cache_stats(), default=str)
    seen = f"{failure.value}{failure.value!r}{search!r}{caplog.text}{stats}"
    assert fake_provider.api_key not in seen
    assert secret_query not in seen


async def test_the_memory_that_is_passed_is_used(fake_provider_env, monkeypatch):
    """Also an empty one: two clients may share it, and its clock is the one that counts."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    now = [0.0]
    memory = MemoryCache(clock=lambda: now[0])
    async with WebSearchClient(memory=memory) as one, WebSearchClient(memory=memory) as other:
        await one.search("q")
        assert (await other.lookup("q")).cached
        now[0] = 3_601.0
        assert not (await other.lookup("q")).cached


@pytest.mark.slow
def test_a_host_that_never_closes_leaves_nothing_behind(fake_provider_env):
    """One `asyncio.run` per request, no client closed: nothing is printed at the end, and no connection is left."""
    program = """
import asyncio, gc, sys, warnings
from llm_common.web_search import WebSearchClient
search = WebSearchClient()
for number in range(3):
    asyncio.run(search.search(f"question {number}"))
del search
gc.collect()
asyncio.run(WebSearchClient().search("another"))
gc.collect()
"""
    environment = {**os.environ, "DATABASE_URL": "", "PYTHONASYNCIODEBUG": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "nclosed" in line or "ResourceWarning" in line]
