"""Databases whose defaults are not those that our SQL rests on, and databases in other encodings."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from llm_common.conversation_memory import ConversationMemory
from llm_common.cost_tracker import CostTracker
from llm_common.db.database import Database
from llm_common.exceptions import ConfigurationError, DatabaseUnavailableError, InvalidInputError
from llm_common.models import Outcome, PlannedCall
from tests.conftest import PostgresServer

CALL = PlannedCall(kind="chat", model="m", provider="x", bound_nano=100, user_id="ann")
OUTCOME = Outcome(model="m", provider="x", cost_nano=60, price_source="map", status="ok")


def alter(dsn: str, *settings: LiteralString) -> None:
    """For all connections to this database that are opened from now on."""
    database = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
    with psycopg.connect(dsn, autocommit=True) as connection:
        for setting in settings:
            connection.execute(sql.SQL("ALTER DATABASE {} SET ").format(database) + sql.SQL(setting))


async def thirty_pairs(db: Database) -> Any:
    """Reserved and settled at once, of one project: what each books, the others see."""
    tracker = CostTracker(db, "1", project="p")

    async def pair() -> None:
        await tracker.settle(await tracker.reserve(CALL), OUTCOME)

    await asyncio.gather(*(pair() for _ in range(30)))
    project, *_ = await tracker.budget_status()
    return project.spent_usd, project.reserved_usd


@pytest.mark.parametrize(
    "setting",
    [
        "default_transaction_isolation = 'serializable'",
        "default_transaction_isolation = 'repeatable read'",
        "client_encoding = 'LATIN1'",
        "search_path = 'nowhere'",
        "standard_conforming_strings = off",
        "transform_null_equals = on",
        "datestyle = 'German'",
        "timezone = 'Asia/Kathmandu'",
        "default_transaction_deferrable = on",
    ],
)
async def test_the_ledger_beside_any_default(dsn: str, setting: LiteralString) -> None:
    """Everything that is booked at once is booked, whatever database or role have for defaults."""
    alter(dsn, setting)
    async with Database.connect(dsn) as db:
        assert await thirty_pairs(db) == (Decimal("0.0000018"), 0)


@pytest.mark.parametrize("setting", ["default_transaction_isolation = 'serializable'", "search_path = 'nowhere'"])
async def test_migrations_beside_any_default(empty_dsn: str, setting: LiteralString) -> None:
    """Tables and functions are made in public, and are found again."""
    alter(empty_dsn, setting)
    async with Database.connect(empty_dsn) as db:
        assert len(await db.migrate()) == len(await db.migrations())
        assert await db.migrate() == []
        assert await thirty_pairs(db) == (Decimal("0.0000018"), 0)


async def test_a_read_only_database_is_left_so(dsn: str) -> None:
    """Somebody meant it: a failover, a full disk. It is as good as away for what writes, and says why."""
    async with Database.connect(dsn) as db:
        alter(dsn, "default_transaction_read_only = on")
        assert await CostTracker(db, project="p").reserve(CALL)  # an old connection
    async with Database.connect(dsn) as db:
        with pytest.raises(DatabaseUnavailableError, match="read-only"):
            await CostTracker(db, project="p").reserve(CALL)


@contextmanager
def database_in(server: PostgresServer, encoding: LiteralString) -> Generator[str]:
    name = f"test_{uuid4().hex}"
    create = sql.SQL("CREATE DATABASE {} ENCODING {} TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'")
    server.execute(create.format(sql.Identifier(name), sql.Literal(encoding)))
    yield server.at(name)
    server.leave_database(name)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "WIN1252"])
async def test_databases_in_other_encodings(postgres_server: PostgresServer, encoding: LiteralString) -> None:
    """They are migrated twice, and keep what they can hold; of the rest the first character is named."""
    with database_in(postgres_server, encoding) as dsn:
        async with Database.connect(dsn) as db:
            assert len(await db.migrate()) == len(await db.migrations())
            assert await db.migrate() == []
            assert await thirty_pairs(db) == (Decimal("0.0000018"), 0)
            memory = ConversationMemory(db, "ann")
            await memory.save_message("user", "Grüße")
            assert [message["content"] for message in await memory.get_context()] == ["Grüße"]
            euro, greek = "5 €", "λόγος"
            refused = {"SQL_ASCII": "", "LATIN1": euro + greek, "WIN1252": greek}[encoding]
            for text, character in ((euro, "€"), (greek, "λ")):
                if text not in refused:
                    await memory.save_message("user", text)
                    continue
                with pytest.raises(InvalidInputError, match=rf"'{character}' .*encoding is {encoding}"):
                    await memory.save_message("user", text)


# A host's pool


@asynccontextmanager
async def over_pool(dsn: str, kind: str, **connection: Any) -> AsyncGenerator[Database]:
    if kind == "async":
        async with AsyncConnectionPool(dsn, min_size=1, open=False, kwargs=connection) as pool:
            yield Database.of(pool)
    else:
        with ConnectionPool(dsn, min_size=1, open=True, kwargs=connection) as pool:
            yield Database.of(pool)


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_hosts_pool_is_told_what_is_wrong(dsn: str, kind: str, autocommit: bool) -> None:
    """Before the first call does anything; with what to write, and then it works."""
    alter(dsn, "default_transaction_isolation = 'repeatable read'", "client_encoding = 'LATIN1'")
    async with over_pool(dsn, kind, autocommit=autocommit) as db:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=r"isolation level repeatable read.*read\\ committed"):
                await CostTracker(db, project="p").reserve(CALL)
        with pytest.raises(ConfigurationError, match="isolation level"):
            await db.migrate()
    options = r"-c default_transaction_isolation=read\ committed"
    async with over_pool(dsn, kind, autocommit=autocommit, options=options) as db:
        with pytest.raises(ConfigurationError, match=r"client_encoding LATIN1.*'client_encoding': 'utf8'"):
            await CostTracker(db, project="p").reserve(CALL)
    async with over_pool(dsn, kind, autocommit=autocommit, options=options, client_encoding="utf8") as db:
        assert await thirty_pairs(db) == (Decimal("0.0000018"), 0)


async def test_a_hosts_pool_on_a_database_without_an_encoding(postgres_server: PostgresServer) -> None:
    """psycopg would give bytes there, which nothing could read."""
    with database_in(postgres_server, "SQL_ASCII") as dsn:
        for kind in ("async", "sync"):
            async with over_pool(dsn, kind) as db:
                with pytest.raises(ConfigurationError, match="client_encoding SQL_ASCII"):
                    await db.migrations()
