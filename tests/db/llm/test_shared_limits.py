"""Limits in Postgres: taken all or none, by several clients and connections, and free again when their holder died."""

import asyncio
import logging

import psycopg
import pytest

from llm_common.db.database import Database
from llm_common.db.functions.rate_limits import RateDemand
from llm_common.exceptions import LimitReachedError, MigrationError
from llm_common.llm.limits.rules import LimitRequest, Limits
from llm_common.shared_limits import SharedLimits
from tests.support.onlooker import pages

ONE = LimitRequest({"zai": Limits(concurrency=1)})


async def counts(dsn: str) -> tuple[int, int]:
    """Slots that are held, and buckets that are not full."""
    query = """
        SELECT (SELECT count(*) FROM rate_limit_slots), count(*) FROM rate_limit_buckets
        WHERE greatest(requests_full_at, tokens_full_at) > extract(epoch FROM clock_timestamp()) * 1e6"""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return await (await connection.execute(query)).fetchone()


async def test_two_processes_share_slots_and_buckets(db, dsn):
    """What one takes the other lacks, in the same namespace only; what is ended or given back is there again."""
    async with SharedLimits(dsn) as here, SharedLimits(dsn) as there, SharedLimits(dsn, namespace="other") as other:
        permit = await here.acquire(ONE, patience=5.0)
        with pytest.raises(LimitReachedError, match="concurrency=1 of zai"):
            await there.acquire(ONE, patience=0.05)
        await (await other.acquire(ONE, patience=5.0)).end(None)
        await permit.end(None)
        await (await there.acquire(ONE, patience=5.0)).end(None)

        minute = LimitRequest({"zai": Limits(requests_per_minute=1)})
        await (await here.acquire(minute, patience=1.0)).give_back()
        await (await there.acquire(minute, patience=1.0)).end(None)
        with pytest.raises(LimitReachedError) as caught:
            await here.acquire(minute, patience=1.0)
        assert caught.value.retry_after == pytest.approx(60, abs=10)


async def test_a_claim_takes_all_or_nothing(db, dsn):
    """Where one of its limits refuses, the others have lost nothing."""
    limits = SharedLimits(db)
    holder = await limits.acquire(ONE, patience=5.0)
    both = LimitRequest({"a": Limits(concurrency=1, requests_per_minute=1), "zai": Limits(concurrency=1)})
    with pytest.raises(LimitReachedError):
        await limits.acquire(both, patience=0.05)
    assert await counts(dsn) == (1, 0)
    await holder.end(None)
    await (await limits.acquire(both, patience=5.0)).end(None)
    assert await counts(dsn) == (0, 1)


async def test_tokens_are_corrected_by_the_truth(db):
    """A guess that was too high gives room at once; one that was too low makes the next wait."""
    limits, claim = SharedLimits(db), LimitRequest({"zai": Limits(tokens_per_minute=1000)}, tokens=100)
    await (await limits.acquire(claim, patience=1.0)).end(0)
    await (await limits.acquire(claim, patience=1.0)).end(500)
    with pytest.raises(LimitReachedError, match="tokens_per_minute=1000"):
        await limits.acquire(claim, patience=1.0)


async def test_many_connections_cannot_take_more_than_there_is(dsn):
    """Twelve connections at once on one bucket of ten and one set of five slots."""
    bucket = RateDemand(key="bucket", requests_us=10**9, requests_spare_us=9 * 10**9)
    slots = RateDemand(key="slots", concurrency=5)
    databases = [Database.of(dsn) for _ in range(12)]

    async def take(number: int, demand: RateDemand) -> bool:
        permit = f"00000000-0000-0000-0000-{number:012}"
        database = databases[number % len(databases)]
        return not await database.rate_limits.take("n", permit, [demand], lease_seconds=60.0)

    try:
        assert sum(await asyncio.gather(*(take(n, bucket) for n in range(60)))) == 10
        assert sum(await asyncio.gather(*(take(n, slots) for n in range(60)))) == 5
    finally:
        for database in databases:
            await database.aclose()


async def test_others_cost_a_request_nothing(dsn):
    """However many buckets and slots there are, of this namespace or of others, a request reads its own."""
    for statement in (
        "INSERT INTO rate_limit_buckets SELECT 'n', 'k' || n, 0, 0 FROM generate_series(1, 20000) n",
        """INSERT INTO rate_limit_slots SELECT 'n', 'k' || n % 5000, gen_random_uuid(),
            now() + CASE WHEN n % 2 = 0 THEN 1 ELSE -1 END * interval '1 h' FROM generate_series(1, 20000) n""",
        "VACUUM (ANALYZE) rate_limit_buckets, rate_limit_slots",
    ):
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(statement)
    permit = "'00000000-0000-0000-0000-000000000001'"
    limits = '"concurrency": 9, "requests_us": 1, "requests_spare_us": 1e9, "tokens_us": 1, "tokens_spare_us": 1e9'
    demands = "[" + ", ".join(f'{{"key": "k{n}", {limits}}}' for n in (7, 8)) + "]"
    corrections = "[" + ", ".join(f'{{"key": "k{n}", "requests_us": 0, "tokens_us": -1}}' for n in (7, 8)) + "]"
    assert await pages(dsn, f"rate_limit_take('n', {permit}, '{demands}', 60)") < 80
    assert await pages(dsn, f"rate_limit_end('n', {permit}, '{corrections}')") < 40


async def test_claims_in_any_order_do_not_deadlock(dsn):
    """Two keys, written in both orders, by many at once: everybody gets an answer."""
    async with SharedLimits(dsn) as here, SharedLimits(dsn) as there:
        a, b = Limits(concurrency=100), Limits(requests_per_minute=100_000)
        claims = [LimitRequest({"a": a, "b": b}), LimitRequest({"b": b, "a": a})]
        permits = await asyncio.gather(
            *(limits.acquire(claim, patience=30.0) for limits in (here, there) for claim in claims * 10)
        )
        await asyncio.gather(*(permit.end(None) for permit in permits))
    assert (await counts(dsn))[0] == 0


async def test_the_slot_of_a_dead_process_comes_free(db, dsn):
    """Its lease ends by itself, and the next one sweeps it away."""
    demand = RateDemand(key="zai", concurrency=1)
    permit = "00000000-0000-0000-0000-000000000001"
    assert await db.rate_limits.take("default", permit, [demand], lease_seconds=0.05) == []
    await (await SharedLimits(db).acquire(ONE, patience=30.0)).end(None)
    assert await counts(dsn) == (0, 0)


async def test_a_slot_is_held_as_long_as_its_request_may_take(db, dsn):
    """The wait is a part of a request's time, and its slot outlives all of it."""
    await SharedLimits(db).acquire(ONE, patience=80.0)
    with psycopg.connect(dsn) as connection:
        (held,) = connection.execute("SELECT held_until > now() + interval '100 s' FROM rate_limit_slots").fetchone()
    assert held


async def test_first_come_first_served_within_a_process(db):
    """Only the first in line asks the database; the others follow in their order."""
    limits, order = SharedLimits(db), []
    holder = await limits.acquire(ONE, patience=5.0)

    async def work(name: int) -> None:
        permit = await limits.acquire(ONE, patience=30.0)
        order.append(name)
        await permit.end(None)

    tasks = []
    for name in range(5):
        tasks.append(asyncio.create_task(work(name)))
        await asyncio.sleep(0)
    await holder.end(None)
    await asyncio.gather(*tasks)
    assert order == list(range(5))


async def test_a_wait_that_is_too_long_is_not_begun(db, dsn):
    """Neither by the first in line nor by one who would have to wait for those before it as well."""
    limits, claim = SharedLimits(db), LimitRequest({"zai": Limits(requests_per_minute=1)})
    await limits.acquire(claim, patience=1.0)
    with pytest.raises(LimitReachedError):
        await limits.acquire(claim, patience=5.0)
    first = asyncio.create_task(limits.acquire(claim, patience=70.0))
    line = next(iter(limits._lines.get().values()), None)
    while line is None or not line.free_at:
        await asyncio.sleep(0.01)
        line = next(iter(limits._lines.get().values()), None)
    with pytest.raises(LimitReachedError) as caught:
        await limits.acquire(claim, patience=70.0)
    assert caught.value.retry_after > 100
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert limits._lines.get() == {}


async def test_cancelled_while_the_database_decides_leaves_nothing(db, dsn):
    """The answer arrives after the caller has left, and is given back."""
    limits = SharedLimits(db)
    claim = LimitRequest({"zai": Limits(concurrency=1, requests_per_minute=1)})
    async with await psycopg.AsyncConnection.connect(dsn) as other:
        await other.execute("SELECT rate_limit_gates('default', '{zai}')")
        task = asyncio.create_task(limits.acquire(claim, patience=30.0))
        blocked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as watcher:
            while (await (await watcher.execute(blocked)).fetchone())[0] == 0:
                assert not task.done()
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0)
        await other.rollback()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await counts(dsn) == (0, 0)


async def test_without_the_database_each_process_holds_to_the_limits_by_itself(caplog):
    """Work goes on, within the same limits, and one warning says that they are not shared."""
    async with SharedLimits("postgresql://nobody@127.0.0.1:1/none") as limits:
        with caplog.at_level(logging.WARNING, "llm_common"):
            permit = await limits.acquire(ONE, patience=30.0)
            with pytest.raises(LimitReachedError):
                await limits.acquire(ONE, patience=0.05)
            await permit.end(None)
            await (await limits.acquire(ONE, patience=5.0)).end(None)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "by itself" in caplog.text


async def test_a_database_without_our_schema_is_told(empty_dsn):
    """That is no outage, and would never pass."""
    async with SharedLimits(empty_dsn) as limits:
        with pytest.raises(MigrationError, match="llm-common migrate"):
            await limits.acquire(ONE, patience=5.0)
