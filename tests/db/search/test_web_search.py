import asyncio
import logging
from decimal import Decimal

import psycopg
import pytest

from llm_common.cost_tracker import CostTracker
from llm_common.exceptions import BudgetExceededError, SearchError
from llm_common.testing import Fault, Reply
from llm_common.web_search import RetryPolicy, WebSearchClient

HIT = {"title": "T", "content": "S", "link": "https://www.irs.gov/x", "publish_date": ""}


@pytest.fixture
def client(fake_provider_env, db):
    """Makes clients on the same database, as different processes or restarts would."""

    def make(**arguments):
        return WebSearchClient(None, db, **arguments)

    return make


def rows(dsn, query):
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


async def test_a_restart_finds_what_was_paid_for(client, fake_provider):
    """The database tier outlives the process, and gives the same results."""
    async with client() as before:
        first = await before.search("q")
    async with client() as after:
        assert await after.search("Q ") == first
        stats = await after.get_cache_stats()
    assert len(fake_provider.requests) == 1
    assert (stats["misses"], stats["db_hits"], stats["hit_rate"], stats["scope"]) == (1, 1, 0.5, "database")
    assert (stats["spent_usd"], stats["saved_usd"]) == (Decimal("0.01"), Decimal("0.01"))


async def test_every_search_is_in_the_ledger_and_a_cached_one_costs_nothing(client, dsn):
    """One row per request, with who asked for it, and one for what the cache answered to them."""
    async with client(project="p") as search:
        for _ in range(3):
            await search.search("q", step="research", user_id="u", run_id="r")
    columns = "model, step, cost_usd, project, provider, user_id, run_id::text, kind, status, calls"
    assert rows(dsn, f"SELECT {columns} FROM cost_tracking ORDER BY cost_usd") == [
        ("zai/search-prime", "research", Decimal(0), "p", "zai", "u", "r", "cache_hit", "ok", 2),
        ("zai/search-prime", "research", Decimal("0.010000000"), "p", "zai", "u", "r", "search", "ok", 1),
    ]


async def test_a_failed_search_is_charged_only_if_the_provider_worked(client, dsn, fake_provider):
    """A refused request is free, an unreadable answer is not; nothing stays reserved."""
    fake_provider.script(Fault.zai_error("1214"), Fault.wrong_schema())
    async with client() as search:
        for _ in range(2):
            with pytest.raises(SearchError):
                await search.search("q")
    assert rows(dsn, "SELECT cost_usd, status, price_source FROM cost_tracking") == [
        (Decimal("0.010000000"), "failed", "estimate")
    ]
    assert rows(dsn, "SELECT count(*) FROM cost_reservations") == [(0,)]


async def test_retries_are_charged_each(client, dsn, fake_provider):
    """A server error may be billed; so the row has the sum and the number of attempts."""
    fake_provider.script(Fault.server_error(500), Fault.rate_limit(retry_after=0))
    async with client(retries=RetryPolicy(base_wait=0.001)) as search:
        assert len(await search.search("q")) == 10
    assert rows(dsn, "SELECT cost_usd, attempts, status FROM cost_tracking") == [(Decimal("0.020000000"), 3, "ok")]


async def test_budgets_hold_searches(fake_provider_env, db):
    """A tracker's budget refuses before anything is sent."""
    tracker = CostTracker(db, budgets=(), daily_budget_usd=Decimal("0.025"))
    async with WebSearchClient(None, db, cost_tracker=tracker) as search:
        outcomes = await search.search_many([f"q{i}" for i in range(5)])
    refused = [o for o in outcomes if isinstance(o.error, BudgetExceededError)]
    assert (len(refused), len(fake_provider_env.requests)) == (3, 2)


async def test_two_clients_at_once_cost_one_search(client, fake_provider):
    """The second waits for the first one's answer."""
    fake_provider.script(Reply(results=(HIT,), delay=0.2))
    async with client() as one, client() as other:
        answers = await asyncio.gather(*(search.search("q") for search in (one, other) for _ in range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert len(fake_provider.requests) == 1


async def test_when_the_leader_fails_a_waiter_takes_over_at_once(client, fake_provider):
    """It does not wait for the lease to end, and the error stays the leader's."""
    fake_provider.script(Fault.zai_error("1214").delayed(0.1))
    async with client(lease_seconds=60) as one, client(lease_seconds=60) as other:
        leader = asyncio.create_task(one.search("q"))
        await fake_provider.arrived()
        follower = asyncio.create_task(other.search("q"))
        with pytest.raises(SearchError):
            await leader
        async with asyncio.timeout(5):
            assert len(await follower) == 10


async def test_a_long_fetch_keeps_its_lease(client, fake_provider):
    """It is renewed while its holder lives, however short it is."""
    fake_provider.script(Reply(results=(HIT,), delay=1.6))
    async with client(lease_seconds=1) as one, client(lease_seconds=1) as other:
        answers = await asyncio.gather(one.search("q"), other.search("q"))
    assert [len(answer) for answer in answers] == [1, 1]
    assert len(fake_provider.requests) == 1


async def test_a_closed_clients_lease_is_given_up(client, fake_provider):
    """Somebody else fetches at once."""
    fake_provider.script(Fault.stall())
    one = client(lease_seconds=60, timeout=60)
    lost = asyncio.create_task(one.search("q"))
    await fake_provider.arrived()
    for flight in one._fallback._providers[0]._cached._flights._by_loop.get().flying:
        flight.cancel()
    with pytest.raises(SearchError, match="closed"):
        await lost
    await one.aclose()
    async with client() as other, asyncio.timeout(5):
        assert len(await other.search("q")) == 10


async def test_a_stale_answer_is_served_and_renewed_beside(client, fake_provider):
    """On request only; the next one gets the new answer."""
    fake_provider.script(Reply(results=(HIT,)), Reply(results=(HIT, HIT | {"link": "https://b.gov"})))
    async with client(db_cache_ttl=0.05, memory_cache_ttl=0, stale_ttl=60) as search:
        assert len(await search.search("q")) == 1
        await asyncio.sleep(0.06)
        assert len(await search.search("q")) == 1
        await fake_provider.arrived(2)
        await search._fallback._providers[0]._cached.aclose()
        assert len(await search.search("q")) == 2
        stats = await search.get_cache_stats()
    assert stats["stale_hits"] == 1
    assert len(fake_provider.requests) == 2


async def test_without_asking_for_it_nothing_stale_is_served(client, fake_provider):
    """An expired answer is fetched anew."""
    async with client(db_cache_ttl=0.02, memory_cache_ttl=0) as search:
        await search.search("q")
        await asyncio.sleep(0.03)
        await search.search("q")
    assert len(fake_provider.requests) == 2


async def test_memory_does_not_outlive_the_database(client, fake_provider):
    """An answer that is nearly expired there is not kept for another hour here."""
    async with client(db_cache_ttl=0.1) as one:
        await one.search("q")
    async with client(db_cache_ttl=0.1) as other:
        await other.search("q")
        await asyncio.sleep(0.11)
        await other.search("q")
    assert len(fake_provider.requests) == 2


async def test_empty_answers_are_shared_for_their_short_time(client, fake_provider):
    """Never for a day."""
    fake_provider.script(Reply(results=()))
    async with client(empty_cache_ttl=0.2) as one, client(empty_cache_ttl=0.2) as other:
        assert await one.search("q") == []
        assert await other.search("q") == []
        assert len(fake_provider.requests) == 1
        await asyncio.sleep(0.21)
        assert len(await other.search("q")) == 10


async def test_an_entry_that_cannot_be_read_is_fetched_anew(client, dsn, fake_provider, caplog):
    """Somebody's edit in the table does not poison the key."""
    async with client() as one:
        await one.search("q")
    with psycopg.connect(dsn) as connection:
        connection.execute("""UPDATE web_search_cache SET results = '[{"title": 5}]'""")
    async with client() as other:
        assert len(await other.search("q")) == 10
    assert "cannot be read" in caplog.text
    assert len(fake_provider.requests) == 2
    assert rows(dsn, "SELECT jsonb_array_length(results) FROM web_search_cache") == [(10,)]


async def test_text_that_postgres_refuses_is_cached_all_the_same(client, fake_provider, caplog):
    """A NUL from a page does not knock the cache out."""
    fake_provider.script(Reply(results=(HIT | {"content": "a\x00b"},)))
    async with client() as one, client() as other:
        with caplog.at_level(logging.WARNING, "llm_common"):
            assert (await one.search("q"))[0].snippet == "ab"
            assert (await other.search("q"))[0].snippet == "ab"
    assert caplog.records == []
    assert len(fake_provider.requests) == 1


async def test_invalidation_reaches_the_database(client, fake_provider):
    """By query in any spelling, by prefix, and for all."""
    async with client() as search:
        for query in ("SB 277", "SB 278", "HB 1"):
            await search.search(query)
        assert await search.invalidate("sb  277") == 1
        assert await search.invalidate_prefix("SB") == 1
        assert await search.clear() == 1
        await search.search("SB 277")
    assert len(fake_provider.requests) == 4


async def test_hits_are_counted_per_entry_without_a_write_per_hit(client, dsn):
    """Memory hits count too; they arrive in batches, the last with closing."""
    async with client() as search:
        for _ in range(5):
            await search.search("q")
        assert rows(dsn, "SELECT hit_count FROM web_search_cache") == [(0,)]
    assert rows(dsn, "SELECT hit_count FROM web_search_cache") == [(4,)]
    assert rows(dsn, "SELECT sum(memory_hits), sum(misses) FROM web_search_stats") == [(4, 1)]


async def test_a_full_batch_is_handed_over_by_itself(client, dsn):
    """Long-lived processes do not wait for their end to be counted."""
    async with client() as search:
        for _ in range(60):
            await search.search("q")
        async with asyncio.timeout(5):
            while rows(dsn, "SELECT hit_count FROM web_search_cache") == [(0,)]:
                await asyncio.sleep(0.01)


async def test_another_address_is_another_cache(client, db, fake_provider):
    """What a test server answered is never served as z.ai's own."""
    async with client() as one:
        await one.search("q")
    async with client(base_url=fake_provider.zai_url.replace("127.0.0.1", "localhost")) as other:
        await other.search("q")
    assert len(fake_provider.requests) == 2


async def test_a_tier_can_be_turned_off(client, dsn, fake_provider):
    """A time of 0 keeps nothing there."""
    async with client(memory_cache_ttl=0, db_cache_ttl=0) as search:
        await search.search("q")
        await search.search("q")
    assert len(fake_provider.requests) == 2
    assert rows(dsn, "SELECT count(*) FROM web_search_cache") == [(0,)]
