"""Every transport gives the same answers: the same values, the same errors, the same effects."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import Any

import psycopg
import pytest

from llm_common.db.database import Database
from llm_common.db.transport import Json
from llm_common.exceptions import (
    BudgetExceededError,
    DatabaseError,
    DatabaseUnavailableError,
    InvalidInputError,
    LLMCommonError,
    MigrationError,
    RunFencedError,
)
from tests.contract.scenarios import SCENARIOS, Transcript

_REFUSAL = {
    "budget": "project day",
    "limit_nano": 2**53 + 1,
    "spent_nano": 1,
    "reserved_nano": 0,
    "requested_nano": 3,
    "resets_at": "2026-11-22T00:00:00+00:00",
}


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        {"a": [1, None, True, {"b": "c"}], "": ""},
        [2**53 + 1, -(2**63), 2**63 - 1, 10**30],
        [0.1, 1e-9, -1.5],
        ["ünïcode", "🙂", "\u2028", 'quote " backslash \\ percent %s brace {}', "\n\t\r", "'; DROP TABLE x; --"],
    ],
    ids=lambda value: json.dumps(value)[:30],
)
async def test_json_comes_back_as_it_went(plain: Database, value: Json) -> None:
    """Objects, lists, large integers and any text survive the way there and back."""
    answer = await plain.call("same", {"value": value})
    assert answer == value
    assert repr(answer) == repr(value) or isinstance(value, dict)


async def test_each_type_that_a_function_may_return(plain: Database) -> None:
    """Scalars are JSON values; uuids and times are text, as PostgREST prints it."""
    names = ("a_boolean", "a_bigint", "a_double", "a_text", "a_null", "a_uuid", "a_moment", "a_day")
    assert [await plain.call(name, {}) for name in names] == [
        True,
        2**63 - 1,
        0.1,
        "it's “text” 🙂",
        None,
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "2026-11-21T07:00:00.12+00:00",
        "2026-11-21",
    ]


async def test_each_type_that_an_argument_may_have(plain: Database) -> None:
    """JSON values are read as the parameter's type."""
    arguments: dict[str, Json] = {
        "flag": False,
        "big": -(2**63),
        "ratio": 3,
        "id": "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "moment": "2026-11-21T07:00:00.5+00:00",
        "day": "2026-11-21",
        "word": "{not json}",
        "items": [{"a": None}],
        "nothing": None,
    }
    assert await plain.call("typed", arguments) == list(arguments.values())


async def test_a_megabyte_passes(plain: Database) -> None:
    """A bill of a megabyte goes through in both directions."""
    value: Json = {"text": "ab §\n" * 200_000}
    assert await plain.call("same", {"value": value}) == value


async def test_fifty_calls_at_once(plain: Database) -> None:
    """Calls of many tasks do not get each other's answers."""
    answers = await asyncio.gather(*(plain.call("same", {"value": [n]}) for n in range(50)))
    assert answers == [[n] for n in range(50)]


@pytest.mark.parametrize(
    ("code", "detail", "expected"),
    [
        ("LC001", json.dumps(_REFUSAL), BudgetExceededError),
        ("LC002", "", InvalidInputError),
        ("LC003", "", DatabaseError),
        ("LC005", '{"run_id": "r"}', RunFencedError),
        ("22023", "a row with a secret", DatabaseError),
        ("53300", "", DatabaseUnavailableError),
        ("40001", "", DatabaseError),
        ("P0001", "a row with a secret", DatabaseError),
    ],
)
async def test_an_error_is_the_same_error(plain: Database, code: str, detail: str, expected: type[Exception]) -> None:
    """Type, message and figures of an error do not depend on the transport, and hold no row."""
    with pytest.raises(LLMCommonError) as caught:
        await plain.call("raise_it", {"code": code, "message": "what happened", "detail": detail})
    assert type(caught.value) is expected
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    if isinstance(caught.value, BudgetExceededError):
        assert str(caught.value.limit_usd) == "9007199.254740993"
    else:
        assert "what happened" in str(caught.value)
    if isinstance(caught.value, DatabaseError):
        assert caught.value.sqlstate == code
    if isinstance(caught.value, RunFencedError):
        assert caught.value.run_id == "r"


async def test_what_postgres_refuses_is_told_without_values(plain: Database) -> None:
    """Values that do not fit and rows that exist already stay out of the message."""
    assert await plain.call("keep", {"word": "my secret"}) == 1
    with pytest.raises(DatabaseError, match="duplicate key") as twice:
        await plain.call("keep", {"word": "my secret"})
    with pytest.raises(DatabaseError, match="invalid input syntax for type uuid") as unfit:
        await plain.call("typed", dict.fromkeys(_TYPED, None) | {"id": "my secret"})
    assert (twice.value.sqlstate, unfit.value.sqlstate) == ("23505", "22P02")
    assert "secret" not in f"{twice.value} {unfit.value}"


_TYPED = ("flag", "big", "ratio", "id", "moment", "day", "word", "items", "nothing")


async def test_a_function_that_fails_leaves_nothing(plain: Database) -> None:
    """One call is one transaction."""
    with pytest.raises(DatabaseError, match="division_by_zero") as caught:
        await plain.call("keep_and_fail", {"word": "a"})
    assert caught.value.sqlstate == "22012"
    assert await plain.call("keep", {"word": "a"}) == 1


async def test_an_unmigrated_database_is_recognised(plain: Database) -> None:
    """A missing function, missing parameters and a missing table all lead to `llm-common migrate`."""
    for name, arguments in (("reserve_cost", {"call": {}}), ("same", {"other": 1}), ("needs_missing_table", {})):
        with pytest.raises(MigrationError, match="llm-common migrate"):
            await plain.call(name, arguments)


@pytest.mark.parametrize("value", [["nul \x00"], ["half \ud83d pair"], [float("nan")], [float("inf")]], ids=ascii)
async def test_what_json_or_postgres_cannot_hold_is_refused(plain: Database, value: Json) -> None:
    """NUL, unpaired surrogates and numbers that are none are the caller's to remove."""
    with pytest.raises(InvalidInputError):
        await plain.call("same", {"value": value})


async def test_the_event_loop_goes_on(plain: Database, empty_dsn: str) -> None:
    """While a call waits in the server, the loop does what the call is waiting for."""
    async with await psycopg.AsyncConnection.connect(empty_dsn, autocommit=True) as holder:
        await holder.execute("SELECT pg_advisory_lock(7)")
        call = asyncio.create_task(plain.call("wait_for_lock", {}))
        async with asyncio.timeout(20):
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while await (await holder.execute(waiting)).fetchone() != (1,):
                await asyncio.sleep(0.01)
        await holder.execute("SELECT pg_advisory_unlock_all()")
        assert await call is True


async def test_a_cancelled_call_breaks_nothing(plain: Database, empty_dsn: str) -> None:
    """After cancelling a call in the middle, the same database answers others."""
    async with await psycopg.AsyncConnection.connect(empty_dsn, autocommit=True) as holder:
        await holder.execute("SELECT pg_advisory_lock(7)")
        call = asyncio.create_task(plain.call("wait_for_lock", {}))
        async with asyncio.timeout(20):
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while await (await holder.execute(waiting)).fetchone() != (1,):
                await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert await asyncio.gather(*(plain.call("same", {"value": [n]}) for n in range(12))) == [[n] for n in range(12)]


# Every method of every namespace


@pytest.mark.parametrize("namespace", SCENARIOS)
async def test_every_method_gives_the_same_answer(
    namespace: str, over_transport: AbstractAsyncContextManager[Database], over_psycopg: Database
) -> None:
    """The same story, told over this transport and over our own connections, has the same transcript."""
    scenario = SCENARIOS[namespace]
    expected = await _told(scenario, over_psycopg)
    async with over_transport as database:
        assert await _told(scenario, database) == expected


def test_every_namespace_has_a_scenario() -> None:
    """A new namespace cannot be forgotten."""
    assert set(SCENARIOS) == {name for name, value in vars(Database).items() if isinstance(value, cached_property)}


@pytest.mark.parametrize("namespace", SCENARIOS)
async def test_every_method_is_in_the_scenario(namespace: str, db: Database) -> None:
    """A new method cannot be forgotten, and none of them only fails."""
    transcript = Transcript()
    await SCENARIOS[namespace](getattr(db, namespace), transcript, db)
    public = {name for name in dir(type(getattr(db, namespace))) if not name.startswith("_")}
    assert transcript.answered == public


@pytest.mark.parametrize("namespace", SCENARIOS)
async def test_every_function_returns_what_both_transports_carry(namespace: str, db: Database, dsn: str) -> None:
    """No NUMERIC (a float over one transport), no sets (cut short over one), nothing that writes and is read-only."""
    called: list[str] = []

    async def listening(function: str, arguments: Any) -> Json:
        called.append(function)
        return await db.call(function, arguments)

    await SCENARIOS[namespace](type(getattr(db, namespace))(listening), Transcript(), db)
    query = """SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proname = ANY (%s)
                  AND NOT proretset AND prorettype = ANY ('{jsonb,boolean,integer,bigint,text,uuid,date}'::regtype[])
                  AND NOT '{numeric,real}'::regtype[] && proargtypes::oid[]::regtype[]"""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        right = {name for (name,) in await (await connection.execute(query, [called])).fetchall()}
    assert set(called) - right == set()


async def _told(scenario: Callable[..., Any], database: Database) -> list[tuple[str, str]]:
    transcript = Transcript()
    namespace = next(name for name, value in SCENARIOS.items() if value is scenario)
    await scenario(getattr(database, namespace), transcript, database)
    return transcript.without_chance()
