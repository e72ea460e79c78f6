"""A rollout on a real Postgres: who runs what, what is recorded, and that the latch closes once."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal

import psycopg
import pytest

from llm_common.db.database import Database
from llm_common.exceptions import BudgetExceededError, InvalidInputError
from llm_common.rollout import Guardrail, RolledBack, Rollout

FLAG = "USE_NEW_LLM_FRAMEWORK"


@dataclass(frozen=True)
class Priced:
    """What a path answers, with its price."""

    text: str
    cost_usd: Decimal = Decimal("0.001")


async def new() -> Priced:
    return Priced("new")


async def old() -> Priced:
    return Priced("old")


async def broken() -> Priced:
    raise RuntimeError("a secret of the prompt")


def rollout(db, percentage=100, **options) -> Rollout:
    return Rollout(db, FLAG, percentage=percentage, **{"environ": {}, "ttl": 0.0, **options})


def rows(dsn: str, query: str) -> list[tuple]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


async def fail(flags: Rollout, times: int, unit: str = "u") -> None:
    for _ in range(times):
        with pytest.raises(RuntimeError):
            await flags.run(unit, broken, old)
    await flags.flush()


# Who runs what


async def test_each_unit_runs_its_path(db):
    """At 40 % the units that `enabled` names run the new path, and only they."""
    async with rollout(db, 40, ttl=60) as flags:
        for n in range(50):
            unit = f"user-{n}"
            expected = "new" if await flags.enabled(unit) else "old"
            assert (await flags.run(unit, new, old)).text == expected
        assert {await flags.enabled(f"user-{n}") for n in range(50)} == {True, False}
        assert not await flags.enabled(None)
        assert not await flags.enabled("")


async def test_the_database_steers_all_processes(db, dsn):
    """A percentage set by one process holds in another, wins over code, and None gives the word back to code."""
    async with rollout(db, 100) as one, Database.connect(dsn) as elsewhere, rollout(elsewhere, 100) as other:
        assert await other.percentage() == 100
        await one.set_percentage(0)
        assert await other.percentage() == 0
        await one.set_percentage(None)
        assert await other.percentage() == 100
        await one.pause()
        assert await other.percentage() == 0
        await other.resume()
        assert await one.percentage() == 100
        with pytest.raises(InvalidInputError):
            await one.set_percentage(101)


async def test_a_kill_switch_wins_over_the_database(db):
    """`<FLAG>=false` is off although the database says 100."""
    async with rollout(db, environ={FLAG: "false"}) as flags:
        await flags.set_percentage(100)
        assert not await flags.enabled("u")
        assert (await flags.run("u", new, old)).text == "old"


async def test_without_a_database_everybody_gets_the_old_path(caplog):
    """An unreachable database breaks nothing: the old path answers, and one line is logged."""
    async with rollout("postgresql://127.0.0.1:1/none") as flags:
        for _ in range(3):
            assert (await flags.run("u", broken, old)).text == "old"
    assert len(caplog.records) == 1
    assert "everybody gets the old path" in caplog.text


async def test_without_our_schema_everybody_gets_the_old_path(empty_dsn, caplog):
    """A database that was never migrated is no reason to fail either; the log says what to do."""
    async with rollout(empty_dsn) as flags:
        assert (await flags.run_or_fall_back("u", broken, old)).text == "old"
    assert "llm-common migrate" in caplog.text


# What is recorded


async def test_outcomes_are_recorded_with_time_and_cost(db, dsn):
    """Each call leaves its arm, whether it succeeded, its latency and its cost, and nothing of its content."""
    async with rollout(db) as flags:
        await flags.run("u", new, old)
        await fail(flags, 1)
        await flags.run(None, new, old)
    stored = rows(dsn, "SELECT arm, ok, cost_nano, seconds >= 0 FROM rollout_outcomes ORDER BY id")
    assert stored == [("new", True, 1_000_000, True), ("new", False, None, True), ("old", True, 1_000_000, True)]
    assert "secret" not in str(rows(dsn, "SELECT * FROM rollout_outcomes"))


async def test_nothing_is_recorded_while_nobody_is_in(db, dsn):
    """At 0 % there is nothing to compare, so a call costs no write."""
    async with rollout(db, 0) as flags:
        await flags.run("u", new, old)
    assert rows(dsn, "SELECT * FROM rollout_outcomes") == []


async def test_a_cancelled_call_says_nothing_about_its_path(db, dsn):
    """A caller who leaves is no failure of the new path."""
    async with rollout(db) as flags:
        task = asyncio.create_task(flags.run("u", asyncio.Event().wait, asyncio.Event().wait))
        while not await flags.enabled("u"):
            pass
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert rows(dsn, "SELECT * FROM rollout_outcomes") == []


async def test_a_cost_that_cannot_be_read_costs_no_answer(db, dsn):
    """A host's `cost_of` that fails, or gives nonsense, leaves the cost unknown."""
    for cost_of in (lambda _: 1 / 0, lambda _: Decimal(-1)):
        async with rollout(db, cost_of=cost_of) as flags:
            assert (await flags.run("u", new, old)).text == "new"
    assert rows(dsn, "SELECT cost_nano FROM rollout_outcomes") == [(None,), (None,)]


async def test_outcomes_do_not_grow_without_bound(db, dsn):
    """However many calls there were, some thousands of outcomes are kept, the newest."""
    from llm_common.db.functions.rollout import ArmOutcome

    batch = [ArmOutcome(epoch=1, arm="old", ok=True, seconds=1.0)] * 100
    for n in range(1, 61):
        await db.rollout.record(FLAG, batch, newest=200, max_age_seconds=60, slow_ratio=1.5)
        report = await db.rollout.report(FLAG, newest=2000, max_age_seconds=600, slow_ratio=1.5)
        assert report.old.calls == min(2000, 100 * n)
    [(count, newest)] = rows(dsn, "SELECT count(*), max(id) FROM rollout_outcomes")
    assert 2000 <= count <= 2400
    assert newest == 6000


# Falling back


async def test_the_old_path_answers_where_the_new_one_fails(db, dsn):
    """The caller gets an answer, the failure is recorded, the help of the old path is not."""
    async with rollout(db) as flags:
        assert (await flags.run_or_fall_back("u", broken, old)).text == "old"
        assert (await flags.run_or_fall_back("u", new, old)).text == "new"
    assert rows(dsn, "SELECT arm, ok FROM rollout_outcomes ORDER BY id") == [("new", False), ("new", True)]


async def test_a_refused_budget_is_not_worked_around(db, dsn):
    """Over budget the old path must not pay instead; and a budget's end is no failure of the new path."""
    asked: list[str] = []

    async def over_budget() -> Priced:
        raise BudgetExceededError("the day's budget is spent")

    async def expensive() -> Priced:
        asked.append("old")
        return Priced("old")

    async with rollout(db) as flags:
        with pytest.raises(BudgetExceededError):
            await flags.run_or_fall_back("u", over_budget, expensive)
    assert asked == []
    assert rows(dsn, "SELECT * FROM rollout_outcomes") == []


# Shadow runs


async def shadows_done(flags: Rollout) -> None:
    while flags._shadows.get():
        await asyncio.wait(set(flags._shadows.get()))


async def test_a_shadow_never_answers(db, dsn):
    """The old path's answer comes back; equal and different results are told apart, without their content."""
    async with rollout(db) as flags:
        assert (await flags.shadow("u", new, old)).text == "old"
        assert (await flags.shadow("u", old, old)).text == "old"
        assert (await flags.shadow("u", new, old, compare=lambda a, b: a.cost_usd == b.cost_usd)).text == "old"
        assert (await flags.shadow(None, new, old)).text == "old"
        await shadows_done(flags)
    stored = rows(dsn, "SELECT ok, compared, difference FROM rollout_outcomes WHERE shadow ORDER BY difference")
    assert len(stored) == 3
    assert stored[0][:2] == (True, True)
    assert len(stored[0][2]) == len("0123456789ab != 0123456789ab")
    assert stored[1:] == [(True, True, None), (True, True, None)]
    assert rows(dsn, "SELECT count(*) FROM rollout_outcomes WHERE arm = 'old' AND NOT shadow") == [(4,)]


async def test_a_shadows_trouble_stays_in_the_shadow(db, dsn):
    """Errors, timeouts and a comparison that fails reach nobody; the first two count as failures."""

    async def stuck() -> Priced:
        await asyncio.Event().wait()
        return Priced("never")

    async with rollout(db, shadow_timeout=0.01) as flags:
        for path in (broken, stuck):
            assert (await flags.shadow("u", path, old)).text == "old"
        assert (await flags.shadow("u", new, old, compare=lambda a, b: a.nothing)).text == "old"
        await shadows_done(flags)
    stored = rows(dsn, "SELECT ok, compared FROM rollout_outcomes WHERE shadow ORDER BY ok")
    assert stored == [(False, False), (False, False), (True, False)]


async def test_shadows_are_bounded_and_end_with_the_rollout(db):
    """At most `max_shadows` run at once, others are left out; `aclose` cancels them."""
    started, cancelled = [], []

    async def endless() -> Priced:
        started.append(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise
        return Priced("never")

    async with asyncio.timeout(30), rollout(db, max_shadows=2, shadow_timeout=3600) as flags:
        for _ in range(5):
            await flags.shadow("u", endless, old)
            await asyncio.sleep(0)
        assert len(started) == 2
    assert len(cancelled) == 2


# The latch


async def test_failures_roll_back_everybody(db, dsn, caplog):
    """After 20 failures the old path answers in every process, whatever percentage anybody sets."""
    told: list[RolledBack] = []
    async with rollout(db, on_rollback=told.append) as flags, Database.connect(dsn) as elsewhere:
        await fail(flags, 19)
        assert await flags.enabled("u")
        await fail(flags, 1)
        assert not await flags.enabled("u")
        other = rollout(elsewhere, environ={FLAG: "true", f"{FLAG}_PERCENTAGE": "100"})
        await other.set_percentage(100)
        await other.resume()
        assert await other.percentage() == 0
        report = await other.report()
        await other.aclose()
    assert [event.reason for event in told] == ["20 of the last 20 calls failed; 5.0% is allowed"]
    assert report.flag.rolled_back_at == told[0].at
    assert report.new.errors == 20
    assert "rolled back" in caplog.text


async def test_only_a_reset_opens_the_latch_and_it_forgets(db):
    """After a reset the new path runs again, and old failures are not held against it."""
    async with rollout(db) as flags:
        await fail(flags, 20)
        assert await flags.percentage() == 0
        await flags.reset(50)
        assert await flags.percentage() == 50
        await flags.set_percentage(100)
        await fail(flags, 19)
        assert await flags.percentage() == 100
        await fail(flags, 1)
        assert await flags.percentage() == 0


async def test_a_late_verdict_does_not_close_a_latch_that_was_reset(db):
    """What was seen before a reset latches nothing after it."""
    async with rollout(db) as flags:
        await flags.set_percentage(100)
        await flags.reset(10)
        assert await db.rollout.latch(FLAG, 1, "too late") is None
        assert await db.rollout.latch(FLAG, 2, "in time") is not None
        assert await db.rollout.latch(FLAG, 2, "again") is None


async def test_exactly_one_process_reports_the_rollback(db, dsn):
    """Eight processes see the failures at the same time; one tells."""
    told: list[RolledBack] = []

    async def tell(event: RolledBack) -> None:
        told.append(event)

    async def fail_until_rolled_back(process: Rollout) -> None:
        for _ in range(20):
            with suppress(RuntimeError):
                await process.run("u", broken, old)
        await process.flush()

    databases = [Database.connect(dsn) for _ in range(8)]
    processes = [rollout(database, ttl=60, on_rollback=tell) for database in databases]
    await asyncio.gather(*(fail_until_rolled_back(process) for process in processes))
    for process, database in zip(processes, databases, strict=True):
        await process.aclose()
        await database.aclose()
    assert len(told) == 1


async def test_a_callback_that_fails_does_not_undo_the_rollback(db, caplog):
    """The host's own error is logged, the rollback stands."""

    def clumsy(event: RolledBack) -> None:
        raise KeyError(event.flag)

    async with rollout(db, on_rollback=clumsy) as flags:
        await fail(flags, 20)
        assert await flags.percentage() == 0
    assert "on_rollback failed" in caplog.text


async def test_a_slow_or_dear_path_is_rolled_back(db):
    """The figures that SQL gathers are those that the rule needs: P95, how many are beyond it, mean and spread."""
    from llm_common.db.functions.rollout import ArmOutcome

    def batch(arm, seconds, cost) -> list[ArmOutcome]:
        return [
            ArmOutcome(epoch=1, arm=arm, ok=True, seconds=seconds * (n + 1) / 100, cost_nano=cost + n % 2)
            for n in range(100)
        ]

    limits = {"newest": 200, "max_age_seconds": 60, "slow_ratio": 1.5}
    await db.rollout.record("slow", batch("old", 1.0, 1000), **limits)
    report = await db.rollout.record("slow", batch("new", 2.0, 1000), **limits)
    assert report.old.p95_seconds == 0.95
    assert report.new.p95_seconds == 1.9
    assert report.new.slow == 29
    assert report.new.mean_cost_nano == 1000.5
    assert report.new.sd_cost_nano == pytest.approx(0.5025, abs=1e-4)
    async with Rollout(db, "slow", percentage=100, environ={}, ttl=0) as flags:
        await flags.run("u", new, old)
        await flags.flush()
        assert "P95 latency" in ((await flags.report()).flag.rollback_reason or "")

    await db.rollout.record("dear", batch("old", 1.0, 1000), **limits)
    await db.rollout.record("dear", batch("new", 1.0, 2000), **limits)
    async with Rollout(db, "dear", percentage=100, environ={}, ttl=0, cost_of=lambda _: None) as flags:
        await flags.run("u", new, old)
        await flags.flush()
        assert "a call costs" in ((await flags.report()).flag.rollback_reason or "")


async def test_old_outcomes_leave_the_window(db, dsn):
    """Figures older than the guardrail's window no longer count."""
    async with rollout(db, guardrail=Guardrail(window_seconds=3600)) as flags:
        await fail(flags, 19)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("UPDATE rollout_outcomes SET recorded_at = now() - interval '2 hours'")
        await fail(flags, 5)
        assert (await flags.report()).new.calls == 5
        assert await flags.percentage() == 100


async def test_the_api_roles_of_supabase_reach_nothing(dsn):
    """`anon` and `authenticated` can neither read the tables nor call a function; `service_role` can."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for role in ("anon", "authenticated"):
            connection.execute(f"SET ROLE {role}")
            for query in ("SELECT * FROM rollout_flags", "SELECT rollout_get('x')", "SELECT rollout_reset('x', 1)"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(query)
        connection.execute("SET ROLE service_role")
        connection.execute("SELECT rollout_reset('x', 1)")
        outcome = '[{"epoch": 1, "arm": "new", "ok": true, "seconds": 1}]'
        connection.execute("SELECT rollout_record('x', %s, 10, 60, 1.5)", (outcome,))


@pytest.fixture(autouse=True)
def _log_level(caplog):
    caplog.set_level(logging.WARNING, "llm_common.rollout")


async def test_a_store_in_the_process_answers_as_sql_does(db):
    """The same flags, figures and latches come out of both."""
    from llm_common.db.functions.rollout import ArmOutcome
    from llm_common.rollout.local_flags import LocalFlags

    async def story(store):
        said = [await store.get("f"), await store.set_percentage("f", 10), await store.set_enabled("f", enabled=False)]
        said += [
            await store.reset("f", None),
            await store.latch("f", 1, "late"),
            await store.set_enabled("f", enabled=True),
        ]
        outcomes = [
            ArmOutcome(epoch=n % 3, arm=arm, ok=n % 4 > 0, seconds=n / 7, cost_nano=n * 1000 if n % 5 else None)
            for n in range(40)
            for arm in ("new", "old")
        ]
        window = {"newest": 30, "max_age_seconds": 60, "slow_ratio": 1.1}
        said += [await store.record("f", outcomes, **window), await store.report("f", **window)]
        latched = await store.latch("f", 2, "slow")
        again = await store.latch("f", 2, "slow")
        return said, latched.rollback_reason, latched.epoch, again

    in_sql, here = await story(db.rollout), await story(LocalFlags())
    assert in_sql == here
