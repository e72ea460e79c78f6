"""Reserving and settling while the disk, or a standby, takes its time: the gate is free, and the answer still waits."""

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import AsyncConnection, sql
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from llm_common.db import cluster, embedded
from llm_common.db.database import Database
from llm_common.db.transport import Json

PAID: dict[str, Json] = {"cost_nano": 60, "price_source": "map", "status": "ok"}


def planned(call_id: str) -> dict[str, Json]:
    return {"id": call_id, "project": "p", "kind": "chat", "provider": "x", "model": "m", "bound_nano": 100}


async def reserve(db: Database, call_id: str) -> object:
    return await db.ledger.reserve(planned(call_id), [], hold_seconds=900)


async def plain(connection: AsyncConnection[Any], call_id: str) -> object:
    """The function itself, as PostgREST calls it."""
    return await connection.execute("SELECT reserve_cost(%s::jsonb, '[]')", (json.dumps(planned(call_id)),))


@pytest.fixture
def folder(scratch_dir: str | None) -> Generator[Path]:
    """The data of a server that waits for its disk, as the session's own does not."""
    folder = Path(tempfile.mkdtemp(prefix="llm-common-tests-", dir=scratch_dir))
    yield folder
    embedded.stop(folder)
    shutil.rmtree(folder)


@pytest.fixture
async def careful(folder: Path) -> str:
    dsn = embedded.start(folder)
    async with Database.connect(dsn) as db:
        await db.migrate()
    return dsn


@asynccontextmanager
async def standby_missing(
    watcher: AsyncConnection[Any], probe: AsyncConnection[Any]
) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
    """Commits wait for a standby that never comes; yields what waits until one more does than the probe's."""

    async def told(names: str) -> None:
        await watcher.execute(sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(names))
        await watcher.execute("SELECT pg_reload_conf()")

    async def waiting() -> int:
        found = await watcher.execute("SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        return found.rowcount

    async def somebody_waits() -> None:
        async with asyncio.timeout(20):
            while await waiting() < 2:
                await asyncio.sleep(0.01)

    await told("nobody")
    probing = asyncio.create_task(probe.execute("SELECT llm_common_flush()"))
    try:
        # The server takes the setting in at a moment of its own.
        while not await waiting():
            if probing.done():
                probing = asyncio.create_task(probe.execute("SELECT llm_common_flush()"))
            await asyncio.sleep(0.01)
        yield somebody_waits
    finally:
        await told("")
        await probing


async def is_open(watcher: AsyncConnection[Any], call_id: str) -> tuple[object, object]:
    """Whether the gate is free, and whether the next one through it would see the reservation."""
    found = await watcher.execute(
        "SELECT pg_try_advisory_xact_lock(421, hashtext('p')), EXISTS (SELECT FROM cost_reservations WHERE id = %s)",
        (call_id,),
    )
    return (await found.fetchall())[0]


async def test_the_gate_is_free_while_a_commit_waits(careful: str):
    """The next call passes, and counts what the one before it set aside; who is before it has no answer yet."""
    mine, other = str(uuid4()), str(uuid4())
    async with (
        Database.connect(careful) as db,
        await AsyncConnection.connect(careful, autocommit=True) as watcher,
        await AsyncConnection.connect(careful, autocommit=True) as probe,
        await AsyncConnection.connect(careful, autocommit=True) as held,
    ):
        await reserve(db, str(uuid4()))  # opens the day's windows
        async with standby_missing(watcher, probe) as somebody_waits:
            reserving = asyncio.create_task(reserve(db, mine))
            await somebody_waits()
            assert await is_open(watcher, mine) == (True, True)
            assert not reserving.done()
        await reserving
        async with standby_missing(watcher, probe) as somebody_waits:
            settling = asyncio.create_task(db.ledger.settle(mine, PAID))
            await somebody_waits()
            assert await is_open(watcher, mine) == (True, False)
            assert not settling.done()
        assert (await settling).changed
        # The control: within the caller's own transaction the gate is shut until all is written.
        async with standby_missing(watcher, probe) as somebody_waits:
            waiting = asyncio.create_task(plain(held, other))
            await somebody_waits()
            assert await is_open(watcher, other) == (False, False)
        await waiting


async def test_what_was_answered_survives_a_crash(careful: str, folder: Path):
    """A server that dies at once has all that anybody was told of, and not what nobody waited for (the control)."""
    settled, reserved, unanswered = (str(uuid4()) for _ in range(3))
    async with (
        Database.connect(careful) as db,
        await AsyncConnection.connect(careful, autocommit=True) as careless,
    ):
        await careless.execute("SET synchronous_commit = off")
        found = await careless.execute("SELECT pid FROM pg_stat_activity WHERE backend_type <> 'client backend'")
        helpers = [pid for (pid,) in await found.fetchall()]
        # Nobody but a commit writes the log from here on: no writer, no checkpoint, no vacuum.
        for helper in helpers:
            os.kill(helper, signal.SIGSTOP)
        try:
            await reserve(db, settled)
            await db.ledger.settle(settled, PAID)
            await reserve(db, reserved)
            await plain(careless, unanswered)
            postmaster = int((cluster.path(folder) / "postmaster.pid").read_text().split()[0])
            os.kill(postmaster, signal.SIGQUIT)  # "immediate": as if the machine had stopped
        finally:
            for helper in helpers:
                with suppress(ProcessLookupError):
                    os.kill(helper, signal.SIGCONT)
        async with asyncio.timeout(20):
            while (cluster.path(folder) / "postmaster.pid").exists():
                await asyncio.sleep(0.01)
    with psycopg.connect(embedded.start(folder)) as connection:
        known = connection.execute(
            "SELECT id::text, 'paid' FROM cost_tracking UNION ALL SELECT id::text, 'held' FROM cost_reservations"
        ).fetchall()
        assert dict(known) == {settled: "paid", reserved: "held"}
        assert connection.execute("SELECT * FROM check_cost_ledger('p')").fetchall() == []


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_pool_of_the_hosts_works_in_either_mode(dsn: str, kind: str, autocommit: bool):
    """Where psycopg has begun a transaction, a procedure that commits would be refused: the function is called."""
    pool: Any = {"async": AsyncConnectionPool, "sync": ConnectionPool}[kind](
        dsn, min_size=1, max_size=1, open=False, kwargs={"autocommit": autocommit}
    )
    call_id = str(uuid4())
    opened = pool.open()
    if opened is not None:
        await opened
    db = Database.of(pool)
    await reserve(db, call_id)
    assert (await db.ledger.settle(call_id, PAID)).changed
    assert not (await db.ledger.settle(call_id, PAID)).changed
    closed = pool.close()
    if closed is not None:
        await closed
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT id::text FROM cost_tracking").fetchall() == [(call_id,)]
