"""The stories of the contract over a real PostgREST, where there is one.

Set POSTGREST_URL, POSTGREST_KEY (a token of service_role) and POSTGREST_DSN: the database that it serves, whose name
must contain "test", because its schema public is emptied.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Any

import psycopg
import pytest
from postgrest import AsyncPostgrestClient

from llm_common.db.database import Database
from llm_common.exceptions import MigrationError
from tests.contract.scenarios import SCENARIOS, Transcript

URL, KEY, DSN = (os.environ.get(name, "") for name in ("POSTGREST_URL", "POSTGREST_KEY", "POSTGREST_DSN"))

pytestmark = pytest.mark.skipif(not (URL and KEY and DSN), reason="POSTGREST_URL, POSTGREST_KEY, POSTGREST_DSN not set")

_EMPTY = """
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role;
"""


@pytest.fixture
async def served() -> AsyncGenerator[Database]:
    """The emptied and migrated database, as PostgREST shows it."""
    async with await psycopg.AsyncConnection.connect(DSN, autocommit=True) as connection:
        assert "test" in connection.info.dbname, "POSTGREST_DSN must name a database that may be emptied"
        await connection.execute(_EMPTY)
    async with Database.connect(DSN) as direct:
        await direct.migrate()
    async with AsyncPostgrestClient(URL, headers={"Authorization": f"Bearer {KEY}"}) as client:
        database = Database.of(client)
        await _schema_reloaded(database)
        yield database


async def _schema_reloaded(database: Database) -> None:
    # The migrations end with NOTIFY pgrst; PostgREST takes a moment to read the schema anew.
    async with asyncio.timeout(20):
        while True:
            try:
                await database.runs.list()
            except MigrationError:
                await asyncio.sleep(0.2)
            else:
                return


@pytest.mark.parametrize("namespace", SCENARIOS)
async def test_every_method_gives_the_same_answer(namespace: str, served: Database, db: Database) -> None:
    """The same story, told over PostgREST and over our own connections, has the same transcript."""
    assert await _told(namespace, served) == await _told(namespace, db)


async def _told(namespace: str, database: Database) -> Any:
    transcript = Transcript()
    await SCENARIOS[namespace](getattr(database, namespace), transcript, database)
    return transcript.without_chance()
