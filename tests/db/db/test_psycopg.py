"""Calls over psycopg: our own connections, and the host's pools."""

import asyncio
import gc
import logging
import random
import socket
import threading
import traceback
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from llm_common.db.database import Database
from llm_common.db.dsn import describe, with_defaults
from llm_common.db.pool import MAX_CONNECTIONS
from llm_common.exceptions import (
    ConfigurationError,
    DatabaseError,
    DatabaseUnavailableError,
    InvalidInputError,
    MigrationError,
)

_FUNCTIONS = """
CREATE TABLE public.note (word text);
CREATE FUNCTION public.echo(value jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT value';
CREATE FUNCTION public.note(word text) RETURNS void LANGUAGE sql AS 'INSERT INTO public.note VALUES (word)';
CREATE FUNCTION public.notes() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.note';
CREATE FUNCTION public.my_pid() RETURNS int LANGUAGE sql AS 'SELECT pg_backend_pid()';
CREATE FUNCTION public.prepared() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM pg_prepared_statements';
CREATE FUNCTION public.nap(seconds double precision) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(seconds)';
CREATE FUNCTION public.wait_for_lock() RETURNS boolean LANGUAGE sql AS
    'SELECT pg_advisory_xact_lock(7) IS NOT NULL';
CREATE FUNCTION public.note_and_fail(word text) RETURNS void LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.note VALUES (word); RAISE EXCEPTION USING ERRCODE = ''LC002'', MESSAGE = ''no''; END';
CREATE FUNCTION public.mixed(flag boolean, big bigint, ratio double precision, id uuid, at timestamptz, day date,
                             word text, items jsonb, nothing text) RETURNS jsonb LANGUAGE sql AS
    'SELECT jsonb_build_array(flag, big, ratio, id, at, day, word, items, nothing)';
"""


@pytest.fixture
async def observer(empty_dsn: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """A connection beside ours, in a database that has the functions above."""
    async with await psycopg.AsyncConnection.connect(empty_dsn, autocommit=True) as connection:
        await connection.execute(_FUNCTIONS)
        yield connection


@pytest.fixture
async def calls(empty_dsn: str, observer: psycopg.AsyncConnection) -> AsyncIterator[Database]:
    assert observer
    async with Database.connect(empty_dsn) as database:
        yield database


async def backends(observer: psycopg.AsyncConnection) -> list[int]:
    query = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    return [pid for (pid,) in await (await observer.execute(query)).fetchall()]


async def wait_until_blocked(observer: psycopg.AsyncConnection, function: str, *, calls: int = 1) -> int:
    """Until that many calls of `function` wait in the server; the process id of one of them."""
    query = """SELECT pid FROM pg_stat_activity
                WHERE state = 'active' AND wait_event IS NOT NULL AND query LIKE %s AND pid <> pg_backend_pid()"""
    async with asyncio.timeout(20):
        while True:
            found = await (await observer.execute(query, [f"%{function}%"])).fetchall()
            if len(found) >= calls:
                return found[0][0]
            await asyncio.sleep(0.01)


async def test_every_type_of_argument_arrives(calls: Database) -> None:
    """JSON values are read as the parameter's type, and come back as JSON values without losing a digit."""
    arguments = {
        "flag": True,
        "big": 2**63 - 1,
        "ratio": 0.1,
        "id": "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "at": "2026-11-21T07:00:00.123456+00:00",
        "day": "2026-11-21",
        "word": "naïve “quotes” %s {} 🙂 'x' \\",
        "items": [{"a": [1, None, False]}, "b"],
        "nothing": None,
    }
    answer = await calls.call("mixed", arguments)
    assert answer == list(arguments.values())


async def test_no_statement_is_prepared(calls: Database) -> None:
    """A transaction-mode pooler hands each transaction another server: nothing may be kept there."""
    for _ in range(8):
        assert await calls.call("prepared", {}) == 0


async def test_tasks_share_few_connections(calls: Database, observer: psycopg.AsyncConnection) -> None:
    """However many tasks call at once, they take turns on a bounded number of connections."""
    answers = await asyncio.gather(*(calls.call("echo", {"value": {"n": n}}) for n in range(200)))
    assert answers == [{"n": n} for n in range(200)]
    assert len(await backends(observer)) <= MAX_CONNECTIONS


async def test_one_after_another_uses_one_connection(calls: Database, observer: psycopg.AsyncConnection) -> None:
    """Connections are kept and used again."""
    pids = {await calls.call("my_pid", {}) for _ in range(5)}
    assert len(pids) == 1
    assert await backends(observer) == list(pids)


async def test_a_cancelled_call_leaves_the_pool_whole(calls: Database, observer: psycopg.AsyncConnection) -> None:
    """Cancelling stops the statement in the server, and the connections stay usable, all of them."""
    await observer.execute("SELECT pg_advisory_lock(7)")
    tasks = [asyncio.create_task(calls.call("wait_for_lock", {})) for _ in range(MAX_CONNECTIONS + 3)]
    await wait_until_blocked(observer, "wait_for_lock", calls=MAX_CONNECTIONS)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    await observer.execute("SELECT pg_advisory_unlock_all()")
    answers = await asyncio.gather(*(calls.call("echo", {"value": [n]}) for n in range(30)))
    assert answers == [[n] for n in range(30)]
    assert len(await backends(observer)) <= MAX_CONNECTIONS


async def test_cancelled_at_any_moment_no_connection_is_left_open(
    empty_dsn: str, observer: psycopg.AsyncConnection, caplog: pytest.LogCaptureFixture
) -> None:
    """While it connects, waits or gives back, once or twice: each is closed, before the collector would have to."""
    chance = random.Random(3)
    caplog.set_level(logging.ERROR, "psycopg")  # it warns of each cancelled cancellation

    async def in_a_transaction(database: Database) -> None:
        async with database._sql_transport().transaction() as execute:
            await execute(b"SELECT pg_sleep(0.001)", ())

    async def cut_off(work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        for _ in range(chance.choice([1, 1, 2])):
            await asyncio.sleep(chance.uniform(0, 0.02))
            task.cancel()
        await asyncio.wait({task})

    for after in (0.01, 60) * 12:
        async with Database.connect(empty_dsn) as database:
            works = [database.call("nap", {"seconds": 0.001}) for _ in range(12)]
            calls = asyncio.gather(*map(cut_off, works), *(cut_off(in_a_transaction(database)) for _ in range(6)))
            await asyncio.wait({calls}, timeout=after)
        await calls  # some were still under way when the database was closed
    gc.collect()  # a connection that was dropped while it was open fails this test
    async with asyncio.timeout(20):
        while await backends(observer):
            await asyncio.sleep(0.01)


async def test_broken_idle_connections_are_replaced(calls: Database, observer: psycopg.AsyncConnection) -> None:
    """After the server has closed every connection, the next calls work as if nothing had been."""
    await asyncio.gather(*(calls.call("nap", {"seconds": 0.05}) for _ in range(4)))
    before = await backends(observer)
    assert len(before) > 1
    for pid in before:
        await observer.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    answers = await asyncio.gather(*(calls.call("my_pid", {}) for _ in range(4)))
    assert not set(answers) & set(before)


async def test_a_connection_that_breaks_in_a_call_is_an_error(
    calls: Database, observer: psycopg.AsyncConnection
) -> None:
    """Nobody knows whether the statement took effect, so it is not sent again; the next call works."""
    await observer.execute("SELECT pg_advisory_lock(7)")
    call = asyncio.create_task(calls.call("wait_for_lock", {}))
    pid = await wait_until_blocked(observer, "wait_for_lock")
    await observer.execute("SELECT pg_terminate_backend(%s)", [pid])
    with pytest.raises(DatabaseUnavailableError):
        await call
    assert await calls.call("echo", {"value": {}}) == {}


async def test_a_closed_database_opens_again(calls: Database, observer: psycopg.AsyncConnection) -> None:
    """`aclose` closes what is idle now and what is lent when it comes back; a later call opens anew."""
    await observer.execute("SELECT pg_advisory_lock(7)")
    lent = asyncio.create_task(calls.call("wait_for_lock", {}))
    pid = await wait_until_blocked(observer, "wait_for_lock")
    await calls.aclose()
    await observer.execute("SELECT pg_advisory_unlock_all()")
    assert await lent is True
    assert await calls.call("my_pid", {}) != pid
    await calls.aclose()
    async with asyncio.timeout(20):
        while await backends(observer):
            await asyncio.sleep(0.01)


def test_each_event_loop_has_its_own_connections(empty_dsn: str) -> None:
    """One `Database` works in several loops: one after another, and at once in threads."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute(_FUNCTIONS)
    database = Database.connect(empty_dsn)
    answers: list[object] = []

    async def use() -> None:
        answers.append(await database.call("echo", {"value": ["x"]}))
        await database.aclose()

    asyncio.run(use())
    asyncio.run(use())
    threads = [threading.Thread(target=lambda: asyncio.run(use())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [["x"]] * 5


@pytest.mark.parametrize("word", ["nul \x00 inside", "half \ud83d of a pair"])
async def test_text_that_cannot_be_stored_is_refused(calls: Database, word: str) -> None:
    """NUL and unpaired surrogates are the caller's to remove, in text and inside JSON."""
    with pytest.raises(InvalidInputError, match="NUL or an unpaired surrogate"):
        await calls.call("note", {"word": word})
    with pytest.raises(InvalidInputError, match="NUL or an unpaired surrogate"):
        await calls.call("echo", {"value": {"deep": [word]}})


async def test_not_a_number_is_refused(calls: Database) -> None:
    """JSON has no NaN."""
    with pytest.raises(InvalidInputError, match="value has NaN"):
        await calls.call("echo", {"value": [float("nan")]})


async def test_errors_carry_no_values(calls: Database) -> None:
    """Neither the message nor what a log prints of the exception has the caller's text in it."""
    text = "prompt".upper()  # so that the line of source in the traceback does not have it
    with pytest.raises(DatabaseError) as caught:
        await calls.call("nap", {"seconds": text})
    assert caught.value.sqlstate == "22P02"
    assert text not in "".join(traceback.format_exception(caught.value))


async def test_an_unmigrated_database_says_so(calls: Database) -> None:
    """A missing function leads to the command that creates it."""
    with pytest.raises(MigrationError, match="llm-common migrate"):
        await calls.call("reserve_cost", {"call": {}})


# Connecting


async def test_nothing_listens_there() -> None:
    """The error comes at once, names host and port, and never the password."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        url = f"postgres://someone:my-password@127.0.0.1:{port}/app"
        with pytest.raises(DatabaseUnavailableError, match=f"someone@127.0.0.1:{port}/app") as caught:
            await Database.connect(url)
        assert "my-password" not in str(caught.value)
        assert "my-password" not in repr(Database.connect(url))


async def test_no_such_database(postgres_server) -> None:
    """A database that does not exist is named."""
    with pytest.raises(DatabaseUnavailableError, match='database "nowhere" does not exist'):
        await Database.connect(postgres_server.at("nowhere"))


@pytest.fixture
def locked_role(postgres_server) -> str:
    """A role that has to give its password."""
    postgres_server.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
    with psycopg.connect(postgres_server.dsn) as connection:
        [hba] = connection.execute("SHOW hba_file").fetchone()
    Path(hba).write_text("local all locked scram-sha-256\n" + Path(hba).read_text())
    postgres_server.execute("SELECT pg_reload_conf()")
    return "locked"


async def test_a_wrong_password(postgres_server, locked_role: str) -> None:
    """The server's refusal is passed on; the password that was tried is not."""
    with pytest.raises(DatabaseUnavailableError, match="password authentication failed") as caught:
        await Database.connect(make_conninfo(postgres_server.dsn, user=locked_role, password="wrong-one"))
    assert "wrong-one" not in str(caught.value)
    async with Database.connect(make_conninfo(postgres_server.dsn, user=locked_role, password="right")):
        pass


async def test_a_silent_server_is_given_up() -> None:
    """A server that accepts and never answers ends in an error after the DSN's own connect_timeout."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(DatabaseUnavailableError, match="timeout"):
            await Database.connect(f"postgresql://127.0.0.1:{silent.getsockname()[1]}/app?connect_timeout=2")


async def test_a_failed_connection_does_not_take_a_slot(empty_dsn: str) -> None:
    """Failing more often than there are slots leaves every slot free."""
    database = Database.connect(make_conninfo(empty_dsn, dbname="nowhere"))
    for _ in range(MAX_CONNECTIONS + 1):
        with pytest.raises(DatabaseUnavailableError, match="nowhere"):
            await database.call("echo", {})


@pytest.mark.parametrize(
    "url",
    [
        "my-secret",
        "postgres://h:port my-secret/",
        "postgresql://u:my/my-secret@h:5432/d",
        "postgresql://u:1/my-secret@h:5432/d",
        "postgresql://u:my@my-secret@h:5432/d",
        "postgresql://u:/my-secret@h/d",
        "postgresql://u:1/d?my-secret=1@h/d",
        "postgresql://u:%zzmy-secret@h/d",
        "host=h password=x my-secret=1",
        "mysql://u:my-secret@h/d",
    ],
)
def test_a_url_that_cannot_be_read_is_not_quoted(url: str) -> None:
    """The error shows what a URL looks like, not this one."""
    with pytest.raises(ConfigurationError, match="postgresql://user:password@host") as caught:
        Database.connect(url)
    assert "my-secret" not in str(caught.value)


def test_the_hosts_url_is_honoured() -> None:
    """What a URL says stays; only bounds on waiting are added where it says nothing."""
    dsn = with_defaults("postgres://u:p@db.internal:6543/app?sslmode=disable&connect_timeout=3")
    for part in ("sslmode=disable", "connect_timeout=3", "port=6543"):
        assert part in dsn
    assert "connect_timeout=10" in with_defaults("postgresql+asyncpg://h/app")
    assert "sslmode" not in with_defaults("host=h dbname=app")
    assert describe("postgresql+psycopg://u:p@h:1/app") == "u@h:1/app"


# The host's pools


async def test_a_hosts_pool_is_used_as_it_is(empty_dsn: str, observer: psycopg.AsyncConnection) -> None:
    """Rows of another shape and transactions that need a commit do not matter; the pool stays open."""
    pool = AsyncConnectionPool(empty_dsn, min_size=1, max_size=2, open=False, kwargs={"row_factory": dict_row})
    async with pool:
        database = Database.of(pool)
        await use_hosts_pool(database, observer)
        await database.aclose()
        assert not pool.closed
    with pytest.raises(DatabaseUnavailableError, match="closed"):
        await database.call("notes", {})


async def test_a_hosts_sync_pool_is_used_as_it_is(empty_dsn: str, observer: psycopg.AsyncConnection) -> None:
    """The same over a synchronous pool."""
    with ConnectionPool(empty_dsn, min_size=1, max_size=2, open=False, kwargs={"row_factory": dict_row}) as pool:
        database = Database.of(pool)
        await use_hosts_pool(database, observer)
        await database.aclose()
        assert not pool.closed
    with pytest.raises(DatabaseUnavailableError, match="closed"):
        await database.call("notes", {})


async def use_hosts_pool(database: Database, observer: psycopg.AsyncConnection) -> None:
    await database.call("note", {"word": "committed"})
    with pytest.raises(InvalidInputError):
        await database.call("note_and_fail", {"word": "rolled back"})
    assert await (await observer.execute("SELECT word FROM note")).fetchall() == [("committed",)]
    assert await database.call("notes", {}) == 1
    for _ in range(20):
        assert await database.call("prepared", {}) == 0


async def test_a_sync_pool_does_not_block_the_loop(empty_dsn: str, observer: psycopg.AsyncConnection) -> None:
    """While a call waits in a thread, the loop can do what the call is waiting for."""
    await observer.execute("SELECT pg_advisory_lock(7)")
    with ConnectionPool(empty_dsn, min_size=1, open=False) as pool:
        call = asyncio.create_task(Database.of(pool).call("wait_for_lock", {}))
        await wait_until_blocked(observer, "wait_for_lock")
        await observer.execute("SELECT pg_advisory_unlock_all()")
        assert await call is True


@pytest.mark.parametrize("kind", ["dsn", "pool", "sync pool"])
async def test_migrations_run_over_each_psycopg_source(empty_dsn: str, kind: str) -> None:
    """A DSN and both kinds of pools can migrate; a second time there is nothing to do."""
    async with AsyncConnectionPool(empty_dsn, min_size=1, open=False) as pool:
        with ConnectionPool(empty_dsn, min_size=1, open=False) as sync_pool:
            database = Database.of({"dsn": empty_dsn, "pool": pool, "sync pool": sync_pool}[kind])
            names = [migration.name for migration in await database.migrations()]
            assert await database.migrate() == names
            assert await database.migrate() == []
            await database.aclose()


@pytest.mark.parametrize("kind", ["pool", "sync pool"])
async def test_a_cancelled_transaction_is_rolled_back(
    empty_dsn: str, observer: psycopg.AsyncConnection, kind: str
) -> None:
    """A task that is cancelled in the middle of several statements leaves nothing behind, and the pool usable."""
    async with AsyncConnectionPool(empty_dsn, min_size=1, max_size=1, open=False) as pool:
        with ConnectionPool(empty_dsn, min_size=1, max_size=1, open=False) as sync_pool:
            database = Database.of(pool if kind == "pool" else sync_pool)
            written = asyncio.Event()

            async def write() -> None:
                async with database._sql_transport().transaction() as execute:
                    await execute(b"INSERT INTO public.note VALUES ('half')", ())
                    written.set()
                    await asyncio.Event().wait()

            task = asyncio.create_task(write())
            await written.wait()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert await database.call("notes", {}) == 0
