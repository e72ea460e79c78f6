import asyncio
import json
from datetime import date
from uuid import uuid4

import psycopg
import pytest

from llm_common.exceptions import InvalidInputError

ROWS = [{"title": "T", "url": "https://a.gov", "snippet": "S", "published_date": None, "relevance_score": None}]
TODAY = date(2026, 11, 21)


async def get(db, key="k", max_age=60.0, lease=30.0):
    return await db.search_cache.get(key, folded_query=f"folded {key}", max_age=max_age, lease_seconds=lease)


async def put(db, lease, key="k", fresh=60.0, stale=0.0, rows=ROWS):
    return await db.search_cache.put(
        key,
        lease,
        query=f"Folded {key}",
        query_folded=f"folded {key}",
        provider="zai",
        results=rows,
        fresh_seconds=fresh,
        stale_seconds=stale,
    )


async def filled(db, key="k", **times):
    assert await put(db, (await get(db, key)).lease, key, **times)


async def test_a_cold_key_is_leased_to_one_and_the_rest_wait(db):
    """Of many who ask at once exactly one gets the lease."""
    states = [(await_.state) for await_ in await asyncio.gather(*(get(db) for _ in range(20)))]
    assert sorted(states) == ["lease"] + ["wait"] * 19


async def test_what_was_put_is_hit(db):
    """With its rows and the time for which it is still fresh."""
    await filled(db)
    found = await get(db)
    assert (found.state, found.results) == ("hit", ROWS)
    assert 50 < found.fresh_seconds <= 60


async def test_a_lost_lease_stores_nothing(db):
    """Neither an old token nor an invented one, nor one that was used, can put."""
    old = (await get(db, lease=0.01)).lease
    await asyncio.sleep(0.02)
    new = (await get(db)).lease
    assert new not in (None, old)
    assert not await put(db, old)
    assert not await put(db, str(uuid4()))
    assert await put(db, new)
    assert not await put(db, new)


async def test_an_expired_lease_is_taken_over(db):
    """By one of those who ask."""
    await get(db, lease=0.01)
    await asyncio.sleep(0.02)
    states = sorted(found.state for found in await asyncio.gather(*(get(db) for _ in range(10))))
    assert states == ["lease"] + ["wait"] * 9


async def test_a_renewed_lease_is_kept(db):
    """As long as its holder lives; a lost one cannot be renewed."""
    lease = (await get(db, lease=0.05)).lease
    assert await db.search_cache.renew("k", lease, lease_seconds=30)
    await asyncio.sleep(0.06)
    assert (await get(db)).state == "wait"
    assert not await db.search_cache.renew("k", str(uuid4()), lease_seconds=30)


async def open_call(connection, sql, *arguments):
    """A call in a transaction that stays open."""
    return (await (await connection.execute(sql, arguments)).fetchone())[0]


async def blocked(dsn):
    """Until somebody waits for somebody else's transaction."""
    async with asyncio.timeout(5), await psycopg.AsyncConnection.connect(dsn, autocommit=True) as watcher:
        while True:
            waiting = await watcher.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
            if await waiting.fetchone():
                return
            await asyncio.sleep(0.01)


async def test_two_who_ask_in_the_same_moment_do_not_both_get_the_lease(db, dsn):
    """The second, who saw no lease, finds the first one's when it wants to write its own."""
    async with await psycopg.AsyncConnection.connect(dsn) as first:
        state = await open_call(first, "SELECT search_cache_get('k', 'folded k', 60, 30)")
        second = asyncio.create_task(get(db))
        await blocked(dsn)
        await first.commit()
        assert (state["state"], (await second).state) == ("lease", "wait")


async def test_an_answer_that_comes_in_the_last_moment_is_hit(db, dsn):
    """Who takes an expired lease over while its holder puts the answer after all, serves that answer."""
    lease = (await get(db, lease=0.01)).lease
    await asyncio.sleep(0.02)
    entry = json.dumps({"query": "q", "query_folded": "q", "provider": "zai", "results": ROWS})
    async with await psycopg.AsyncConnection.connect(dsn) as holder:
        put_it = "SELECT search_cache_put('k', %s::uuid, %s::jsonb, 60, 0)"
        assert await open_call(holder, put_it, lease, entry)
        other = asyncio.create_task(get(db))
        await blocked(dsn)
        await holder.commit()
        assert (await other).state == "hit"
    assert not await db.search_cache.renew("k", lease, lease_seconds=30)
    await db.search_cache.invalidate("key", "k")
    assert (await get(db)).state == "lease"


async def test_a_released_lease_is_free_at_once(db):
    """Only its holder can release it."""
    lease = (await get(db)).lease
    assert not await db.search_cache.release("k", str(uuid4()))
    assert (await get(db)).state == "wait"
    assert await db.search_cache.release("k", lease)
    assert (await get(db)).state == "lease"


async def test_a_reader_may_be_stricter_than_the_writer(db):
    """Nothing older than its own limit is fresh to it."""
    await filled(db, fresh=60)
    await asyncio.sleep(0.02)
    assert (await get(db, max_age=0.01)).state == "lease"
    assert (await get(db, max_age=60)).state == "hit"


async def test_a_stale_answer_is_served_while_one_fetches(db):
    """Everybody gets it, one of them with the lease."""
    await filled(db, fresh=0.01, stale=60)
    await asyncio.sleep(0.02)
    first, second = await get(db), await get(db)
    assert (first.state, first.results, first.lease is None) == ("stale", ROWS, False)
    assert (second.state, second.results, second.lease) == ("stale", ROWS, None)


async def test_a_stale_answer_ends_too(db):
    """Beyond its time it is as if it had never been there."""
    await filled(db, fresh=0.01, stale=0.01)
    await asyncio.sleep(0.03)
    assert (await get(db)).state == "lease"


async def test_a_lease_is_no_entry(db, dsn):
    """Whoever reads the table sees answers only."""
    await get(db)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM web_search_cache").fetchone() == (0,)


async def test_the_table_has_the_columns_that_dashboards_read(db, dsn):
    """cache_key, query, results, cached_at, hit_count, with time zone and as a list."""
    await filled(db)
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "SELECT cache_key, query, results, cached_at, hit_count FROM web_search_cache"
        ).fetchone()
    assert row[:3] == ("k", "Folded k", ROWS)
    assert row[3].tzinfo is not None
    assert row[4] == 0


async def test_only_lists_are_stored(db):
    """An object would be nobody's answer."""
    from llm_common.exceptions import DatabaseError

    lease = (await get(db)).lease
    with pytest.raises(DatabaseError):
        await db.call(
            "search_cache_put",
            {"key": "k", "lease": lease, "entry": {"query": "q", "query_folded": "q", "provider": "p", "results": {}},
             "fresh_seconds": 1, "stale_seconds": 0},
        )  # fmt: skip


async def test_invalidation_by_key_query_prefix_and_all(db):
    """Each deletes what it names and gives the number; a prefix is text, not a pattern."""
    for key in ("a1", "a2", "b1", "%"):
        await filled(db, key)
    assert await db.search_cache.invalidate("key", "a1") == 1
    assert await db.search_cache.invalidate("query", "folded a2") == 1
    assert await db.search_cache.invalidate("prefix", "folded %") == 1
    assert await db.search_cache.invalidate("prefix", "folded") == 1
    await filled(db, "c")
    assert await db.search_cache.invalidate("all") == 1
    with pytest.raises(InvalidInputError, match="scope must be"):
        await db.search_cache.invalidate("everything")


async def test_an_invalidated_fetch_is_not_stored(db):
    """What was asked before somebody said "forget it" does not come back."""
    lease = (await get(db)).lease
    await db.search_cache.invalidate("query", "folded k")
    assert not await put(db, lease)
    assert (await get(db)).state == "lease"


async def test_counts_add_up_over_batches_and_processes(db, dsn):
    """Hits per entry, figures per day and provider; unknown keys do no harm."""
    await filled(db, "a")
    days = {TODAY: {"memory_hits": 3, "misses": 1, "spent_nano": 10_000_000, "saved_nano": 30_000_000}}
    await asyncio.gather(*(db.search_cache.count(days, {"a": 2, "gone": 5}, provider="zai") for _ in range(10)))
    await db.search_cache.count({TODAY: {"errors": 10}}, {}, provider="other")
    stats = await db.search_cache.stats()
    assert (stats["total_searches"], stats["cache_hits"], stats["hit_rate"], stats["errors"]) == (50, 30, 0.6, 10)
    assert (stats["spent_nano"], stats["saved_nano"], stats["entries"]) == (100_000_000, 300_000_000, 1)
    assert stats["by_provider"]["zai"]["hit_rate"] == 0.75
    assert stats["by_day"]["2026-11-21"]["total_searches"] == 50
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT hit_count FROM web_search_cache").fetchone() == (20,)


async def test_an_empty_cache_has_statistics(db):
    """Zeros, not NULLs."""
    stats = await db.search_cache.stats()
    assert (stats["hit_rate"], stats["total_searches"], stats["by_day"], stats["by_provider"]) == (0, 0, {}, {})


async def test_cleanup_deletes_what_nobody_would_be_served(db, dsn):
    """Fresh and stale entries and live leases stay."""
    await filled(db, "old", fresh=0.01)
    await filled(db, "stale", fresh=0.01, stale=60)
    await filled(db, "fresh")
    await get(db, "dead", lease=0.01)
    await get(db, "held")
    await asyncio.sleep(0.02)
    assert await db.search_cache.cleanup() == 1
    with psycopg.connect(dsn) as connection:
        keys = connection.execute("SELECT cache_key FROM web_search_cache ORDER BY 1").fetchall()
        leases = connection.execute("SELECT cache_key FROM web_search_leases").fetchall()
    assert (keys, leases) == ([("fresh",), ("stale",)], [("held",)])


async def test_crowds_do_not_deadlock(db):
    """Readers, writers, counters and invalidations on the same keys, in every order."""
    keys = [f"k{i}" for i in range(8)]

    async def writer(key):
        found = await get(db, key)
        if found.lease:
            await put(db, found.lease, key)

    jobs = []
    for round_ in range(6):
        jobs += [writer(key) for key in keys]
        jobs += [db.search_cache.count({TODAY: {"db_hits": 1}}, dict.fromkeys(keys[::-1], 1), provider="zai")]
        jobs += [
            db.search_cache.invalidate("prefix", "folded" if round_ % 2 else "folded k1"),
            db.search_cache.cleanup(),
        ]
    await asyncio.gather(*jobs)


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_the_api_roles_see_nothing(dsn, role):
    """Neither tables nor functions: what somebody searched for is theirs."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"SET ROLE {role}")
        for statement in (
            "SELECT * FROM public.web_search_cache",
            "SELECT * FROM public.web_search_leases",
            "SELECT * FROM public.web_search_stats",
            "SELECT public.get_cache_stats()",
            "SELECT public.search_cache_get('k', 'q', 1, 1)",
            "SELECT public.cleanup_search_cache()",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_the_service_role_can_do_its_work(dsn):
    """Through row-level security, with its own grants."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET ROLE service_role")
        (lease,) = connection.execute("SELECT search_cache_get('k', 'q', 60, 30)").fetchone()
        entry = json.dumps({"query": "q", "query_folded": "q", "provider": "zai", "results": ROWS})
        stored = connection.execute(
            "SELECT search_cache_put('k', %s::uuid, %s::jsonb, 60, 0)", [lease["lease"], entry]
        ).fetchone()
        assert stored == (True,)
        assert connection.execute("SELECT get_cache_stats()->'entries'").fetchone() == (1,)


async def test_a_lease_and_an_answer_do_not_wait_for_the_disk(db, dsn):
    """A crash may forget them, and then a search is asked again. A hit writes nothing and has nothing to say on it."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:

        async def committing_after(sql, *arguments):
            answer = await open_call(connection, sql, *arguments)
            setting = await open_call(connection, "SHOW synchronous_commit")
            await connection.commit()
            return answer, setting

        await connection.execute("SET synchronous_commit = on")  # the tests' server waits for no disk at all
        await connection.commit()
        asked = "SELECT search_cache_get('k', 'folded k', 60, 30)"
        found, setting = await committing_after(asked)
        assert (found["state"], setting) == ("lease", "off")
        entry = json.dumps({"query": "K", "query_folded": "folded k", "provider": "zai", "results": ROWS})
        stored = await committing_after("SELECT search_cache_put('k', %s, %s, 60, 0)", found["lease"], entry)
        assert stored == (True, "off")
        found, setting = await committing_after(asked)
        assert (found["state"], setting) == ("hit", "on")
