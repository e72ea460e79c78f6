"""What people run, the indexes behind it, and who may."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
from psycopg import AsyncConnection

from llm_common.db.database import Database


async def test_what_people_run_agrees_to_the_last_digit(books):
    """Daily, monthly and grouped costs are sums of the rows, of one project or of all."""
    january = datetime(2026, 1, 31, 12, tzinfo=UTC)
    await books.record(1, timestamp=january.isoformat(), step="a", provider="x", user_id="ann", tokens_used=2)
    await books.record(2_000_000_001, timestamp=january.isoformat(), model="z", user_id="bob", status="failed")
    await books.record(0, timestamp=january.isoformat(), kind="cache_hit", step="a")
    await books.record(4, timestamp=(january + timedelta(days=1)).isoformat(), step="a", user_id="ann")
    await books.record(8, timestamp=january.isoformat(), project="q")

    assert (await books.rows("SELECT get_daily_cost('2026-01-31')::text"))[0] == ("2.000000010",)
    assert (await books.rows("SELECT get_daily_cost('2026-01-31', 'p')::text"))[0] == ("2.000000002",)
    assert (await books.rows("SELECT get_monthly_cost(2026, 1)::text"))[0] == ("2.000000010",)
    assert (await books.rows("SELECT get_monthly_cost(2026, 2, project => 'p')::text"))[0] == ("0.000000004",)
    assert (await books.rows("SELECT get_monthly_cost(2026, 3)::text"))[0] == ("0.000000000",)

    async def groups(group_by: str) -> dict[str, tuple[str, int, int, int]]:
        found = await books.rows(
            "SELECT group_key, cost_usd::text, calls, failed, cache_hits "
            "FROM get_cost_breakdown('2026-01-01', '2026-02-28', %s, 'p')", group_by
        )  # fmt: skip
        return {key: tuple(figures) for key, *figures in found}

    assert await groups("model") == {"z": ("2.000000001", 1, 1, 0), "m": ("0.000000005", 3, 0, 1)}
    assert await groups("step") == {"(none)": ("2.000000001", 1, 1, 0), "a": ("0.000000005", 3, 0, 1)}
    assert await groups("provider") == {"(none)": ("2.000000005", 3, 1, 1), "x": ("0.000000001", 1, 0, 0)}
    assert await groups("user") == {
        "bob": ("2.000000001", 1, 1, 0), "ann": ("0.000000005", 2, 0, 0), "(none)": ("0.000000000", 1, 0, 1),
    }  # fmt: skip
    assert await groups("day") == {"2026-01-31": ("2.000000002", 3, 1, 1), "2026-02-01": ("0.000000004", 1, 0, 0)}
    assert await groups("project") == {"p": ("2.000000006", 4, 1, 1)}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM get_cost_breakdown('2026-01-01', '2026-01-02', 'mood')",
        "SELECT * FROM get_cost_breakdown('2026-01-01', '2026-01-02', NULL)",
        "SELECT * FROM get_cost_breakdown('2026-01-02', '2026-01-01', 'model')",
        "SELECT get_monthly_cost(2026, 13)",
        "SELECT get_monthly_cost(2026, NULL)",
    ],
)
async def test_reports_refuse_what_cannot_be_meant(books, query: str):
    """A wrong group, a reversed range and a month that is none are errors, never an empty answer."""
    with pytest.raises(psycopg.Error) as refused:
        await books.rows(query)
    assert refused.value.sqlstate == "LC002"


async def test_the_nightly_check_finds_what_was_changed_by_hand(books):
    """A row, a counter or a reserve that somebody changes shows as a difference with both figures."""
    call_id = await books.reserve(100)
    await books.settle(await books.reserve(), 70)
    assert await books.differences() == []
    await books.rows("UPDATE cost_tracking SET cost_usd = 0.000000071 RETURNING 1")
    assert {(counted, truth) for _, counted, truth in await books.differences()} == {(70, 71)}
    await books.rows("UPDATE cost_tracking SET cost_usd = 0.000000070 RETURNING 1")
    await books.rows("UPDATE budget_windows SET spent_nano = 0 WHERE \"window\" = 'day' RETURNING 1")
    assert [(counted, truth) for _, counted, truth in await books.differences()] == [(0, 70)]
    await books.rows("DELETE FROM cost_reservations WHERE id = %s RETURNING 1", call_id)
    assert any("reserved_nano" in what for what, *_ in await books.differences())
    await books.rows("DELETE FROM budget_windows RETURNING 1")


async def test_the_users_rollup_is_kept_with_the_rows_and_proven(books):
    """Settled, expired, corrected and released calls of a user are in the rollup as they are in the rows."""
    await books.settle(await books.reserve(user_id="ann"), 30, status="failed")
    await books.settle(await books.reserve(), 5)
    await books.record(0, kind="cache_hit", user_id="bob")
    dead, freed = await books.dead(100, user_id="ann"), await books.dead(40, user_id="bob")
    await books.db.ledger.expire(max_rows=9, project="p")
    query = "SELECT user_id, calls, failed, cache_hits, cost_nano FROM cost_daily_users ORDER BY 1"
    assert await books.rows(query) == [("ann", 2, 2, 0, 130), ("bob", 2, 1, 1, 40)]
    await books.settle(dead, 7)
    await books.db.ledger.release(freed)
    assert await books.rows(query) == [("ann", 2, 1, 0, 37), ("bob", 1, 0, 1, 0)]
    assert await books.differences() == []
    await books.rows("UPDATE cost_daily_users SET cost_nano = 36 WHERE user_id = 'ann' RETURNING 1")
    assert [(what.split("/")[1:], *figures) for what, *figures in await books.differences()] == [
        (["ann", "cost_nano"], 36, 37)
    ]
    await books.rows("UPDATE cost_daily_users SET cost_nano = 37 WHERE user_id = 'ann' RETURNING 1")


async def test_the_forecast_is_its_formula(books):
    """Seven full days of 10 to 70, 5 so far today: spent + the mean for today and each day left, two errors wide."""
    for back in range(1, 8):
        await books.record(back * 10, timestamp=datetime(2026, 1, 20 - back, 12, tzinfo=UTC).isoformat())
    await books.record(5, timestamp=datetime(2026, 1, 20, 1, tzinfo=UTC).isoformat())
    await books.record(10**9, timestamp=datetime(2026, 1, 21, 1, tzinfo=UTC).isoformat())
    seen = await books.db.ledger.forecast("p", date(2026, 1, 20))
    assert (seen.ends, seen.basis_days, seen.spent_usd, seen.mean_usd) == (date(2026, 1, 31), 7, _nano(285), _nano(40))
    # 280 before today, 40 for today and for each of 11 days; s = 21.602..., n = 12: margin = 2 s sqrt(12 (1 + 12 / 7))
    assert (seen.expected_usd, seen.low_usd, seen.high_usd) == (_nano(760), _nano(513), _nano(1007))


async def test_a_forecast_wants_three_full_days(books):
    """Days without a cost count once the project has begun; with two there are no figures rather than wild ones."""
    await books.record(30, timestamp=datetime(2026, 3, 1, 12, tzinfo=UTC).isoformat())
    early = await books.db.ledger.forecast("p", date(2026, 3, 3))
    assert (early.basis_days, early.mean_usd, early.expected_usd, early.low_usd) == (2, _nano(15), None, None)
    later = await books.db.ledger.forecast("p", date(2026, 3, 4))
    assert (later.basis_days, later.expected_usd, later.low_usd) == (3, _nano(30 + 280), _nano(30))
    never = await books.db.ledger.forecast("q", date(2026, 3, 4))
    assert (never.basis_days, never.mean_usd, never.spent_usd) == (0, None, 0)


def _nano(amount: int) -> Decimal:
    return Decimal(amount).scaleb(-9)


async def test_money_is_no_longer_than_its_column(books):
    """The largest amount that a row can show is recorded and summed to the last digit."""
    largest = 999_999_999_999_999_999
    await books.record(largest)
    assert (await books.db.ledger.total("p", None, None)).cost_usd * 10**9 == largest


_PLANS = {
    "a reservation by id": (
        "SELECT * FROM cost_reservations WHERE id = '00000000-0000-0000-0000-000000000001'",
        "cost_reservations_pkey",
    ),
    "the dead of a project": (
        "SELECT * FROM cost_reservations WHERE project = 'p' AND expires_at < now() ORDER BY expires_at LIMIT 3",
        "cost_reservations_expiry",
    ),
    "windows of a call": (
        "UPDATE budget_windows SET spent_nano = spent_nano + 1 WHERE project = 'p' AND scope = ANY "
        "(ARRAY['project', 'user:7']) AND starts IN ('2026-01-05', '2026-01-01', '0001-01-01')",
        "budget_windows_pkey",
    ),
    "a user's month": (
        "SELECT sum(cost_nano) FROM cost_daily_users WHERE project = 'p' AND user_id = '7' AND day >= '2026-01-01'",
        "cost_daily_users_user",
    ),
    "a run": ("SELECT sum(cost_usd) FROM cost_tracking WHERE run_id = '77'", "cost_tracking_run"),
    "a tag": (
        "SELECT sum(cost_usd) FROM cost_tracking WHERE tags <> '{}'::jsonb AND tags @> '{\"t\": \"77\"}'",
        "cost_tracking_tags",
    ),
    "a day of rows": ("SELECT sum(cost_usd) FROM cost_tracking WHERE day = '2026-01-05'", "cost_tracking_time"),
    "a day's users": (
        "SELECT user_id, sum(cost_nano) FROM cost_daily_users WHERE day = '2026-01-05' GROUP BY 1",
        "cost_daily_users_pkey",
    ),
    "a key": ("SELECT 1 FROM cost_tracking WHERE project = 'p' AND idempotency_key = 'k7'", "cost_tracking_key"),
    "a day's rollup": ("SELECT sum(cost_nano) FROM cost_daily WHERE day = '2026-01-05'", "cost_daily_pkey"),
}


async def test_hot_queries_use_their_indexes(people: AsyncConnection):
    """With tables that have grown, each query of the hot paths and reports finds its rows by an index."""
    await people.execute(
        "INSERT INTO cost_tracking (project, kind, model, cost_usd, day, user_id, run_id, tags, idempotency_key) "
        "SELECT 'p', 'chat', 'm', 0, d, (n % 500)::text, (n % 900)::text, jsonb_build_object('t', (n % 900)::text), "
        "'k' || n "
        "FROM (SELECT n, DATE '2026-01-01' + n / 200 AS d FROM generate_series(1, 30000) n) s"
    )
    await people.execute(
        "INSERT INTO cost_reservations SELECT gen_random_uuid(), 'p' || n % 50, '2026-01-01', 'chat', 'x', 'm', NULL, "
        "NULL, NULL, '{}', '{project}', '[]', 1, NULL, '1 min', now(), now() + '1 min', NULL "
        "FROM generate_series(1, 5000) n"
    )
    await people.execute(
        "INSERT INTO budget_windows SELECT 'p', 'user:' || n % 50, DATE '2026-01-01' + n / 50, 'day', NULL, 0, 0, 0 "
        "FROM generate_series(1, 10000) n"
    )
    await people.execute(
        "INSERT INTO cost_daily SELECT DATE '2026-01-01' + n / 50, 'p', 'x', 'm' || n % 50, '', 1, 0, 0, 0, 0, 0 "
        "FROM generate_series(1, 10000) n"
    )
    await people.execute(
        "INSERT INTO cost_daily_users SELECT DATE '2026-01-01' + n / 50, 'p', (n % 50)::text, 1, 0, 0, 0, 0, 0 "
        "FROM generate_series(1, 10000) n"
    )
    await people.execute("ANALYZE cost_tracking, cost_reservations, budget_windows, cost_daily, cost_daily_users")
    for name, (query, index) in _PLANS.items():
        plan = await (await people.execute(f"EXPLAIN {query}")).fetchall()  # pyright: ignore[reportArgumentType,reportCallIssue] (constants above)
        assert index in str(plan), (name, plan)


_TABLES = (
    *("cost_projects", "cost_tracking", "cost_reservations", "budget_windows"),
    *("cost_daily", "cost_daily_users", "cost_alerts"),
)


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_the_public_roles_reach_nothing(people: AsyncConnection, role: str):
    """Neither table nor function of the ledger can be used with a key that a browser has."""
    await people.execute("SELECT set_config('role', %s, false)", (role,))
    for query in (*(f"SELECT * FROM {table}" for table in _TABLES), "SELECT get_daily_cost('2026-01-01')"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await people.execute(query)  # pyright: ignore[reportArgumentType] (constants above)


async def test_every_table_and_function_of_the_ledger_is_closed(people: AsyncConnection):
    """Row-level security is on each table, and no function of ours can be executed by everybody."""
    open_functions = await people.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace "
        "AND (proname ~ '^(cost|budget)_' OR proname ~ '_cost(s|_ledger|_time_zone|_breakdown)?$') "
        "AND prorettype <> 'trigger'::regtype AND (has_function_privilege('anon', oid, 'EXECUTE') OR prosecdef "
        "OR NOT has_function_privilege('service_role', oid, 'EXECUTE') OR proconfig::text !~ 'search_path')"
    )
    assert await open_functions.fetchall() == []
    unsecured = await people.execute(
        "SELECT relname FROM pg_class WHERE relname = ANY(%s) AND NOT relrowsecurity", (list(_TABLES),)
    )
    assert await unsecured.fetchall() == []


async def test_the_service_role_can_do_everything(books, day_limit, dsn: str):
    """The role of Supabase's service key reserves, settles, expires, records and reports."""
    async with Database.connect(f"{dsn} options='-c role=service_role'") as db:
        served = type(books)(db, books.people)
        await served.settle(await served.reserve(10, user_id="u", limits=[day_limit(50, "user:u", alert=0.1)]), 9)
        await served.dead(5)
        await db.ledger.release(await served.reserve())
        await served.record(3)
        assert (await db.ledger.expire(max_rows=9, project=None))[0] == 0
        assert (await db.ledger.total("p", None, None)).cost_usd * 10**9 == 17
        assert [group.key for group in await db.ledger.breakdown(date.min, date.max, group_by="day", project="p")]
        assert await db.ledger.budget_status("p", [day_limit(5)])
        await db.ledger.set_time_zone("p", "UTC")
