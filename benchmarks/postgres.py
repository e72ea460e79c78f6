"""A Postgres of the benchmark's own, on disk and with its defaults: fsync on, full page writes on."""

import asyncio
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from llm_common.db import embedded
from llm_common.db.database import Database

__all__ = ["Server", "server"]

_MIGRATED: Final = "migrated"


class Server:
    """Makes migrated databases; `about` says which server it is and how safely it writes."""

    def __init__(self, dsn: str) -> None:
        self._dsn = make_conninfo(dsn, dbname="postgres")
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_MIGRATED)))
        asyncio.run(_migrate(make_conninfo(dsn, dbname=_MIGRATED)))

    @property
    def about(self) -> str:
        with psycopg.connect(self._dsn) as connection:
            settings = "current_setting('server_version'), current_setting('fsync'), current_setting('shared_buffers')"
            row = connection.execute(sql.SQL("SELECT ") + sql.SQL(settings)).fetchone()
        assert row is not None
        return f"PostgreSQL {row[0]}, fsync {row[1]}, shared_buffers {row[2]}, psycopg {psycopg.__version__}"

    def create(self, name: str) -> str:
        """The DSN of a new migrated database."""
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        self._execute(create.format(sql.Identifier(name), sql.Identifier(_MIGRATED)))
        return make_conninfo(self._dsn, dbname=name)

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def server(parent: Path | None) -> Generator[Server]:
    """Below `parent`, by default the system's temporary folder, which had better be on a disk. Gone afterwards."""
    folder = tempfile.mkdtemp(prefix="llm-common-benchmark-", dir=parent)
    try:
        yield Server(embedded.start(folder))
    finally:
        embedded.stop(folder)
        shutil.rmtree(folder)


async def _migrate(dsn: str) -> None:
    async with Database.connect(dsn) as db:
        await db.migrate()
