"""A real Postgres in a temporary folder, and for each test a fresh copy of a migrated database."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import LiteralString
from uuid import uuid4

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from llm_common.db import embedded
from llm_common.db.database import Database
from llm_common.testing.network import block_network
from tests.docs.schema import ROLES

# A shell's background job is born with Ctrl-C ignored, and so are its children: tests that interrupt would never end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test measures time: on a busy machine one example may take a second.
settings.register_profile("untimed", deadline=None)
settings.register_profile("fast", deadline=None, max_examples=15)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "untimed"))

# A test's data need not survive a power cut.
_FAST = ("fsync = off", "full_page_writes = off", "synchronous_commit = off", "autovacuum = off")


class PostgresServer:
    """A server of this test session. `dsn` is of its maintenance database."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._left: list[str] = []

    def at(self, database: str) -> str:
        return make_conninfo(self.dsn, dbname=database)

    def execute(self, *statements: LiteralString | sql.Composed) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def create_database(self, name: str, template: str = "template0") -> str:
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        self._drop_left()
        self.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        return self.at(name)

    def leave_database(self, name: str) -> None:
        """Dropped with the next one made: PostgreSQL waits 0.1 s for connections that were closed just now."""
        self._left.append(name)

    def _drop_left(self) -> None:
        drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
        self.execute(*(drop.format(sql.Identifier(name)) for name in self._left))
        self._left.clear()


@pytest.fixture(scope="session", autouse=True)
def _only_loopback() -> Generator[None]:
    """No test reaches a paid API by accident."""
    with block_network():
        yield


@pytest.fixture(scope="session")
def scratch_dir() -> str | None:
    """Where temporary servers live: in memory where there is plenty, else in the system's temporary folder (None).

    Not below pytest's folder: each run of pytest closes that one to the user whom root's Postgres runs as.
    """
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and shutil.disk_usage(memory).free > 4 * 2**30 else None


@pytest.fixture(scope="session")
def postgres_server(scratch_dir: str | None) -> Generator[PostgresServer]:
    """An embedded server of this worker's own, without the waiting for the disk."""
    folder = tempfile.mkdtemp(prefix="llm-common-tests-", dir=scratch_dir)
    server = PostgresServer(make_conninfo(embedded.start(folder), dbname="postgres"))
    server.execute(*(sql.SQL("ALTER SYSTEM SET ") + sql.SQL(setting) for setting in _FAST))
    server.execute("SELECT pg_reload_conf()", ROLES)
    yield server
    embedded.stop(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def template_database(postgres_server: PostgresServer) -> str:
    """The name of a database with all our migrations, and with Supabase's grants on schema public."""
    dsn = postgres_server.create_database("template_migrated")

    async def migrate() -> None:
        async with Database.connect(dsn) as db:
            await db.migrate()

    with psycopg.connect(dsn) as connection:
        connection.execute("GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role")
    asyncio.run(migrate())
    return "template_migrated"


@pytest.fixture
def empty_dsn(postgres_server: PostgresServer) -> Generator[str]:
    """A database without any of our tables, for one test."""
    name = f"test_{uuid4().hex}"
    yield postgres_server.create_database(name)
    postgres_server.leave_database(name)


@pytest.fixture
def dsn(postgres_server: PostgresServer, template_database: str) -> Generator[str]:
    """A migrated database, for one test."""
    name = f"test_{uuid4().hex}"
    yield postgres_server.create_database(name, template_database)
    postgres_server.leave_database(name)


@pytest.fixture
async def db(dsn: str) -> AsyncGenerator[Database]:
    """A `Database` on a migrated database of this test's own."""
    async with Database.connect(dsn) as database:
        yield database
