import asyncio
import json
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from llm_common.db.database import Database
from llm_common.exceptions import DatabaseError, SearchError, SearchQuotaError
from llm_common.ledger.local import LocalLedger
from llm_common.models import Budget
from llm_common.testing import FakeProvider, Fault, Reply
from llm_common.web_search import RetryPolicy, WebSearchClient
from tests.support.programs import running

WORKER = Path(__file__).with_name("search_worker.py")
HIT = {"title": "T", "content": "S", "link": "https://www.irs.gov/x", "publish_date": ""}
CENT = 10_000_000
QUICK = RetryPolicy(base_wait=0.001)


# --- processes


@asynccontextmanager
async def worker(dsn, tasks, lease_seconds=10.0):
    with running(WORKER, dsn, tasks, lease_seconds) as program:
        assert await asyncio.to_thread(program.line) == "ready"
        yield program


async def said_by(program):
    return json.loads(await asyncio.to_thread(program.line))


def asked(provider):
    return [request for request in provider.requests if request.body["search_query"] == "the same question"]


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_two_processes_of_fifty_callers_cost_one_search(dsn, fake_provider_env):
    """A stampede on a cold key is one upstream request, and everybody has the answer."""
    async with worker(dsn, 50) as one, worker(dsn, 50) as other:
        fake_provider_env.script(Reply(results=(HIT,), delay=0.3))
        one.send()
        other.send()
        said = [await said_by(process) for process in (one, other)]
    assert said == [{"answers": 50, "sizes": [1]}] * 2
    assert len(asked(fake_provider_env)) == 1


async def test_four_processes_of_two_hundred_callers_cost_one_search(dsn, fake_provider_env):
    """Eight hundred callers of one cold key: one upstream request, one ledger row, and everybody has the answer."""
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(worker(dsn, 200)) for _ in range(4)]
        fake_provider_env.script(Reply(results=(HIT,), delay=0.5))
        for process in workers:
            process.send()
        said = [await said_by(process) for process in workers]
        # Each hands its counts over while it closes its client, and leaving the stack kills who is not done.
        for process in workers:
            await asyncio.to_thread(process.finish)
    assert said == [{"answers": 200, "sizes": [1]}] * 4
    assert len(asked(fake_provider_env)) == 1
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT count(*) FROM cost_tracking WHERE kind = 'search'").fetchone()
        hits = connection.execute("SELECT sum(calls) FROM cost_tracking WHERE kind = 'cache_hit'").fetchone()
        counted = connection.execute("SELECT sum(misses), sum(coalesced + db_hits + memory_hits) FROM web_search_stats")
        figures = counted.fetchone()
    # The four warm-ups, one after the other, were a search of their own.
    assert rows == (2,)
    assert figures == (2, 799 + 3)
    assert hits == (799 + 3,)


async def test_a_killed_leader_is_replaced_within_its_lease(dsn, fake_provider_env):
    """SIGKILL in mid-fetch: a waiter takes over when the lease ends, and both requests stay in the books."""
    async with worker(dsn, 5, lease_seconds=1.0) as leader, worker(dsn, 5, lease_seconds=1.0) as waiter:
        fake_provider_env.script(Fault.stall())
        leader.send()
        await until(lambda: asked(fake_provider_env))
        waiter.send()
        leader.kill()
        said = await said_by(waiter)
    assert said == {"answers": 5, "sizes": [10]}
    assert len(asked(fake_provider_env)) == 2
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT count(*) FROM cost_tracking WHERE status = 'ok' AND kind = 'search'"
        ).fetchone()
        held = connection.execute("SELECT count(*) FROM cost_reservations").fetchone()
    assert (rows, held) == ((2,), (1,))  # the warm-up and the waiter; the dead one's hold is charged when it expires


# --- the provider


@pytest.fixture
async def search(fake_provider_env, monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    async with WebSearchClient(retries=QUICK, timeout=5) as client:
        yield client


@pytest.mark.parametrize(
    "fault",
    [
        Fault.rate_limit(),
        Fault.rate_limit(retry_after=0),
        Fault.zai_error("1302"),
        Fault.zai_error("1303"),
        Fault.zai_error("1305"),
        Fault.server_error(500),
        Fault.server_error(503),
        Fault.server_error(529),
        Fault.reset_before_bytes(),
        Fault.reset_after_bytes(20),
        Fault.not_json(),
        Fault.truncated_json(),
    ],
)
async def test_what_passes_is_tried_again(search, fake_provider, fault):
    """Twice at most; the third attempt answers."""
    fake_provider.script(fault, fault)
    assert len(await search.search("q")) == 10
    assert len(fake_provider.requests) == 3


async def test_after_three_attempts_the_error_is_raised(search, fake_provider):
    """And nothing is cached."""
    fake_provider.script(*[Fault.server_error(503)] * 3)
    with pytest.raises(SearchError, match="503") as failure:
        await search.search("q")
    assert failure.value.status == 503
    assert len(fake_provider.requests) == 3
    assert len(await search.search("q")) == 10


@pytest.mark.parametrize("code", ["1113", "1304", "1308", "1310"])
async def test_an_empty_account_is_told_at_once(search, fake_provider, code):
    """One request, a typed error, nothing charged."""
    fake_provider.script(Fault.zai_error(code))
    with pytest.raises(SearchQuotaError) as failure:
        await search.search("q")
    assert failure.value.code == code
    assert len(fake_provider.requests) == 1
    assert search.ledger.spent_today_nano == 0


async def test_a_coding_plan_key_is_explained(fake_provider_env):
    """It answers 1113 at the general address."""
    async with WebSearchClient(fake_provider_env.zai_coding_key) as search:
        with pytest.raises(SearchQuotaError, match="coding-plan key"):
            await search.search("q")


@pytest.mark.parametrize("fault", [Fault.unauthorized(), Fault.zai_error("1214"), Fault.zai_error("1301")])
async def test_a_refusal_is_not_repeated(search, fake_provider, fault):
    """Nor charged."""
    fake_provider.script(fault)
    with pytest.raises(SearchError):
        await search.search("q")
    assert len(fake_provider.requests) == 1
    assert search.ledger.spent_today_nano == 0


async def test_a_redirect_is_not_followed(search, fake_provider):
    """No answer makes the client carry its key to another host."""
    async with FakeProvider() as elsewhere:
        fake_provider.script(Fault.redirect(f"{elsewhere.zai_url}/web_search"))
        with pytest.raises(SearchError, match="not followed"):
            await search.search("q")
        assert elsewhere.requests == []


async def test_no_answer_ends_at_the_deadline(fake_provider_env):
    """A stalled provider costs the timeout, not more, and is charged: it may have searched."""
    fake_provider_env.script(Fault.stall(), Fault.stall())
    ledger = LocalLedger()
    async with WebSearchClient(timeout=0.2, retries=QUICK, cost_tracker=ledger) as search:
        with pytest.raises(SearchError, match=r"no answer|no time"):
            await search.search("q")
    assert ledger.spent_today_nano == CENT


async def test_a_wait_beyond_the_deadline_is_not_begun(fake_provider_env):
    """Told to come back in an hour, the error is raised now."""
    fake_provider_env.script(Fault.rate_limit(retry_after=3600))
    async with WebSearchClient(timeout=5) as search:
        with pytest.raises(SearchError) as failure:
            await search.search("q")
    assert failure.value.retry_after == 3600
    assert len(fake_provider_env.requests) == 1


async def test_nobody_listening_is_an_error_without_a_charge(unused_tcp_port_of, monkeypatch):
    """The request was never sent."""
    ledger = LocalLedger()
    async with WebSearchClient(
        "key", base_url=f"http://127.0.0.1:{unused_tcp_port_of()}/api", retries=QUICK, cost_tracker=ledger
    ) as search:
        with pytest.raises(SearchError, match="cannot be reached"):
            await search.search("q")
    assert ledger.spent_today_nano == 0


async def test_an_endless_answer_is_cut(monkeypatch):
    """At a few megabytes, without reading on."""

    async def flood(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
        try:
            while True:
                writer.write(b" " * 65536)
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, WebSearchClient("key", base_url=f"http://127.0.0.1:{port}") as search:
        with pytest.raises(SearchError, match="longer than 4 MiB"):
            await search.search("q")


# --- the database


@pytest.fixture
def unused_tcp_port_of():
    def port():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return port


def impatient(client, patience=0.3, pause=0.1):
    """The same client with shorter waits, so that a test need not wait for seconds."""
    for outage in (client._outage, client.ledger._outage):
        outage._patience, outage._pause = patience, pause
    return client


def warnings(caplog):
    return [r.getMessage().split(" fails;")[0] for r in caplog.records if r.name == "llm_common._runtime.outage"]


async def test_with_the_database_down_search_goes_on(unused_tcp_port_of, fake_provider_env, caplog):
    """From memory and upstream, with one log line per outage and no query in it."""
    dsn = f"postgresql://user:hunter22@127.0.0.1:{unused_tcp_port_of()}/none"
    async with impatient(WebSearchClient(None, dsn), pause=60) as search:
        for query in ("secret one", "secret two", "secret one"):
            assert len(await search.search(query)) == 10
        stats = await search.get_cache_stats()
    assert len(fake_provider_env.requests) == 2
    assert (stats["scope"], stats["memory_hits"]) == ("process", 1)
    assert warnings(caplog) == ["the search cache in Postgres", "the cost ledger in Postgres"]
    assert (
        "3 searches and cache hits, $0.020000, are not in the ledger, and are lost if the process ends now"
        in caplog.text
    )
    assert "get_cache_stats() will lack what provider zai did last" in caplog.text
    assert "secret" not in caplog.text
    assert "hunter22" not in caplog.text


async def test_with_a_database_that_hangs_search_goes_on(fake_provider_env, caplog):
    """A server that accepts and says nothing costs one bounded wait."""

    async def silence(reader, writer):
        try:
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    dsn = f"postgresql://user@127.0.0.1:{server.sockets[0].getsockname()[1]}/none"
    async with server, asyncio.timeout(20), impatient(WebSearchClient(None, dsn), pause=60) as search:
        assert len(await search.search("one")) == 10
        assert len(await search.search("two")) == 10
    assert warnings(caplog) == ["the search cache in Postgres", "the cost ledger in Postgres"]


async def test_without_the_tables_search_goes_on(empty_dsn, fake_provider_env, caplog):
    """And recovers by itself once they are there, writing down what was paid meanwhile."""
    async with impatient(WebSearchClient(None, empty_dsn)) as search:
        assert len(await search.search("one")) == 10
        assert len(await search.search("two")) == 10
        assert warnings(caplog) == ["the search cache in Postgres", "the cost ledger in Postgres"]
        async with Database.connect(empty_dsn) as db:
            await db.migrate()
        await asyncio.sleep(0.15)
        assert len(await search.search("three")) == 10
    with psycopg.connect(empty_dsn) as connection:
        paid = connection.execute("SELECT count(*), sum(cost_usd) FROM cost_tracking").fetchone()
        cached = connection.execute("SELECT query FROM web_search_cache").fetchall()
        counted = connection.execute("SELECT sum(misses) FROM web_search_stats").fetchone()
    assert (paid, cached, counted) == ((3, Decimal("0.030000000")), [("three",)], (3,))


async def test_behind_a_locked_table_search_goes_on(dsn, fake_provider_env, caplog):
    """A long lock, as of a migration, costs one bounded wait; when it is gone the tier is back."""
    async with impatient(WebSearchClient(None, dsn)) as search:
        await search.search("warm up")
        with psycopg.connect(dsn) as blocker:
            blocker.execute("LOCK TABLE web_search_cache IN ACCESS EXCLUSIVE MODE")
            async with asyncio.timeout(10):
                assert len(await search.search("one")) == 10
        assert warnings(caplog) == ["the search cache in Postgres"]
        await asyncio.sleep(0.15)
        await search.search("two")
    with psycopg.connect(dsn) as connection:
        cached = {query for (query,) in connection.execute("SELECT query FROM web_search_cache")}
    assert cached == {"warm up", "two"}


def blocked(onlooker):
    """The statements that wait for a lock and have not waited for longer than a call's patience."""
    return set(
        onlooker.execute(
            "SELECT pid, query_start FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "AND datname = current_database() AND clock_timestamp() < query_start + interval '1.5 s'"
        ).fetchall()
    )


@pytest.mark.parametrize("table", ["cost_tracking", "web_search_stats"])
async def test_what_the_database_takes_late_is_there_after_closing(dsn, fake_provider_env, table):
    """A last hand-over that the busy database did not answer in time is done again before the client is closed."""
    search = WebSearchClient(None, dsn)
    for _ in range(3):
        await search.search("one")
    search._outage._patience = search.ledger._outage._patience = 1.0
    with psycopg.connect(dsn) as blocker, psycopg.connect(dsn, autocommit=True) as onlooker:
        blocker.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        closing = asyncio.ensure_future(search.aclose())
        await until(lambda: blocked(onlooker))
        given_up = blocked(onlooker)
        await until(lambda: not given_up & blocked(onlooker))
    await closing
    with psycopg.connect(dsn) as connection:
        paid = connection.execute("SELECT kind, calls FROM cost_tracking ORDER BY kind").fetchall()
        counted = connection.execute("SELECT sum(misses), sum(memory_hits) FROM web_search_stats").fetchone()
    assert paid == [("cache_hit", 2), ("search", 1)]
    assert counted == (1, 2)


async def test_a_server_that_dies_between_searches_is_survived(dsn, postgres_server, fake_provider_env):
    """Connections that were cut are replaced."""
    async with impatient(WebSearchClient(None, dsn)) as search:
        await search.search("one")
        postgres_server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test_%'")
        assert len(await search.search("two")) == 10
        await asyncio.sleep(0.15)
        assert len(await search.search("three")) == 10
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM cost_tracking").fetchone() == (3,)


async def test_a_budget_is_a_promise(unused_tcp_port_of, fake_provider_env):
    """Where a host's tracker cannot reserve, nothing is sent."""
    from llm_common.cost_tracker import CostTracker

    dsn = make_conninfo("", host="127.0.0.1", port=str(unused_tcp_port_of()), dbname="none")
    tracker = CostTracker(dsn, budgets=[Budget(Decimal(1))])
    async with WebSearchClient(None, dsn, cost_tracker=tracker) as search:
        with pytest.raises(DatabaseError):
            await search.search("q")
    assert fake_provider_env.requests == []
