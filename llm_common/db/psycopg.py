"""SQL functions over psycopg: over connections of our own, or over the host's pool.

One call is one statement and one transaction, without prepared statements or session state, so it works through
a transaction-mode pooler.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection, ClientCursor, Connection, IsolationLevel, sql
from psycopg.rows import TupleRow, tuple_row

from llm_common._runtime.fork import after_fork_in_child
from llm_common._runtime.per_loop import PerLoop
from llm_common._text.redaction import Secret, presentable
from llm_common.db.dsn import describe, pinned, shown, with_defaults
from llm_common.db.errors import database_error, not_storable
from llm_common.db.pool import Pool
from llm_common.db.session_settings import READ_SETTINGS, is_read_committed, objection
from llm_common.db.transport import Execute, Json
from llm_common.exceptions import (
    ConfigurationError,
    DatabaseError,
    DatabaseUnavailableError,
    InvalidInputError,
    LLMCommonError,
)

if TYPE_CHECKING:
    # Only a host that passes its pool needs to have it installed.
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

__all__ = ["AsyncPoolTransport", "DsnTransport", "SyncPoolTransport"]

# Host connections have row factories of their own type; we bring ours with each cursor.
_Lend = Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]

# One encoder for all: `json.dumps` makes one for each value.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

#: What poolers say of settings in the startup packet that they do not know.
_REFUSES_OPTIONS: Final = re.compile(r"startup parameter|unrecognized configuration parameter", re.IGNORECASE)
#: Where a connection is free to commit, these open the project's gate before they wait for the disk: see
#: "Early commits" in migrations/*_ledger.sql.
_COMMITTING_EARLY = frozenset({"reserve_cost", "settle_cost"})


class DsnTransport:
    """Connections of our own, one pool per event loop. `dsn` is asked for each new connection."""

    def __init__(self, dsn: Callable[[], Awaitable[str]]) -> None:
        self._dsn = dsn
        self._pools = PerLoop(lambda: Pool(self._connect), Pool.aclose)
        #: A transaction pooler refuses the settings that we would pin, or leaves them out.
        self._takes_options = True
        #: None until the first connection said so. Where the default is another, each call begins a transaction.
        self._read_committed: bool | None = None

    async def call(self, function: str, arguments: Mapping[str, Json]) -> Json:
        return await _call(self._pools.get().connection, function, arguments)

    def transaction(self) -> AbstractAsyncContextManager[Execute]:
        return _transaction(self._pools.get().connection)

    async def aclose(self) -> None:
        await self._pools.aclose()

    async def _connect(self) -> AsyncConnection[TupleRow]:
        dsn = Secret(await self._dsn())
        opened = await self._open(dsn)
        # Raised here: further in, there are variables with the password.
        if isinstance(opened, psycopg.OperationalError):
            raise DatabaseUnavailableError(
                f"cannot connect to {describe(dsn)}: {shown(dsn, str(opened))}. Check host, port, user, password and "
                "database name of the URL (DATABASE_URL), and that the server runs.",
                sqlstate=opened.sqlstate,
            )
        try:
            await self._settle_isolation(opened)
        except BaseException:
            await opened.close()
            raise
        return opened

    async def _open(self, dsn: str) -> AsyncConnection[TupleRow] | psycopg.OperationalError:
        options = pinned(dsn) if self._takes_options else None
        if options is not None:
            opened = await _opened(options)
            if not isinstance(opened, psycopg.OperationalError) or not _REFUSES_OPTIONS.search(str(opened)):
                return opened
        self._takes_options = False
        return await _opened(with_defaults(dsn))

    async def _settle_isolation(self, connection: AsyncConnection[TupleRow]) -> None:
        if self._read_committed is None:
            row = await (await connection.execute(READ_SETTINGS)).fetchone()
            self._read_committed = row is not None and is_read_committed(row)
        await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
        await connection.set_autocommit(self._read_committed)


class _HostPool:
    """What a host's pool of either kind has in common: it is looked at once, and belongs to one process."""

    def __init__(self) -> None:
        self._checked = False
        self._inherited = False
        after_fork_in_child(self, _HostPool.leave_to_parent)

    def leave_to_parent(self) -> None:
        """Its connections, if it has any, are the parent's, and its threads are not here."""
        self._inherited, self._checked = self._inherited or self._checked, False

    def refuse_inherited(self) -> None:
        if self._inherited:
            raise ConfigurationError(
                "this pool was used before the process was forked, so its connections are the parent's. Make pool and "
                "Database in each process, such as in gunicorn's post_fork or Celery's worker_process_init; or pass "
                "the URL: then we open connections of our own."
            )

    def judge(self, row: TupleRow | None) -> None:
        """Takes in the row of `READ_SETTINGS`. Raises `ConfigurationError`."""
        if row is not None and (error := objection(row)) is not None:
            raise error
        self._checked = True


class AsyncPoolTransport(_HostPool):
    """The host's `AsyncConnectionPool`: used as it is, opened and closed by the host."""

    def __init__(self, pool: "AsyncConnectionPool[AsyncConnection[Any]]") -> None:
        super().__init__()
        self._pool = pool

    async def call(self, function: str, arguments: Mapping[str, Json]) -> Json:
        return await _call(self._pool.connection if self._checked else self._lend, function, arguments)

    def transaction(self) -> AbstractAsyncContextManager[Execute]:
        return _transaction(self._lend)

    async def aclose(self) -> None:
        """Leaves the pool to the host."""

    @asynccontextmanager
    async def _lend(self) -> AsyncGenerator[AsyncConnection[Any]]:
        self.refuse_inherited()
        async with self._pool.connection() as connection:
            if not self._checked:
                cursor = connection.cursor(row_factory=tuple_row)
                await cursor.execute(READ_SETTINGS, prepare=False)
                self.judge(await cursor.fetchone())
            yield connection


class SyncPoolTransport(_HostPool):
    """The host's `ConnectionPool`: used on threads, so that the event loop goes on.

    A call that was cancelled while its statement runs completes in the background.
    """

    def __init__(self, pool: "ConnectionPool[Connection[Any]]") -> None:
        super().__init__()
        self._pool = pool

    async def call(self, function: str, arguments: Mapping[str, Json]) -> Json:
        return await asyncio.to_thread(self._call, function, tuple(arguments), _parameters(arguments))

    def _call(self, function: str, names: tuple[str, ...], parameters: Mapping[str, str | None]) -> Json:
        with _our_errors(), self._lend() as connection:
            if function in _COMMITTING_EARLY and connection.autocommit:
                return _call_early(connection, _early_query(function, names), parameters)
            cursor = connection.cursor(row_factory=tuple_row)
            return _only_value(cursor.execute(_query(function, names), parameters, prepare=False).fetchone())

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Execute]:
        held = ExitStack()
        with _our_errors():
            connection = await asyncio.to_thread(held.enter_context, self._lend())
            await asyncio.to_thread(held.enter_context, connection.transaction())

            async def execute(query: bytes, parameters: Sequence[str]) -> list[TupleRow]:
                return await asyncio.to_thread(_rows, connection, query, parameters)

            try:
                yield execute
            except BaseException as error:
                await asyncio.to_thread(held.__exit__, type(error), error, error.__traceback__)
                raise
            await asyncio.to_thread(held.close)

    async def aclose(self) -> None:
        """Leaves the pool to the host."""

    @contextmanager
    def _lend(self) -> Generator[Connection[Any]]:
        self.refuse_inherited()
        with self._pool.connection() as connection:
            if not self._checked:
                with connection.cursor(row_factory=tuple_row) as cursor:
                    self.judge(cursor.execute(READ_SETTINGS, prepare=False).fetchone())
            yield connection


async def _opened(conninfo: str) -> AsyncConnection[TupleRow] | psycopg.OperationalError:
    try:
        return await AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as error:
        return error.with_traceback(None)


async def _call(lend: _Lend, function: str, arguments: Mapping[str, Json]) -> Json:
    parameters = _parameters(arguments)
    with _our_errors():
        async with lend() as connection:
            if function in _COMMITTING_EARLY and connection.autocommit:
                return await _async_call_early(connection, _early_query(function, tuple(arguments)), parameters)
            cursor = connection.cursor(row_factory=tuple_row)
            await cursor.execute(_query(function, tuple(arguments)), parameters, prepare=False)
            return _only_value(await cursor.fetchone())


async def _async_call_early(
    connection: AsyncConnection[Any], query: bytes, parameters: Mapping[str, str | None]
) -> Json:
    # Several statements in one message: the client puts the parameters in.
    cursor = AsyncClientCursor(connection, row_factory=tuple_row)
    await cursor.execute(query, parameters)
    while cursor.description is None and cursor.nextset():
        pass
    return _only_value(await cursor.fetchone())


def _call_early(connection: Connection[Any], query: bytes, parameters: Mapping[str, str | None]) -> Json:
    cursor = ClientCursor(connection, row_factory=tuple_row)
    cursor.execute(query, parameters)
    while cursor.description is None and cursor.nextset():
        pass
    return _only_value(cursor.fetchone())


@asynccontextmanager
async def _transaction(lend: _Lend) -> AsyncGenerator[Execute]:
    with _our_errors():
        async with lend() as connection, connection.transaction():
            yield partial(_async_rows, connection)


async def _async_rows(connection: AsyncConnection[Any], query: bytes, parameters: Sequence[str]) -> list[TupleRow]:
    with _our_errors():
        cursor = connection.cursor(row_factory=tuple_row)
        await cursor.execute(query, parameters or None, prepare=False)
        return await cursor.fetchall() if cursor.description else []


def _rows(connection: Connection[Any], query: bytes, parameters: Sequence[str]) -> list[TupleRow]:
    with _our_errors():
        cursor = connection.cursor(row_factory=tuple_row)
        cursor.execute(query, parameters or None, prepare=False)
        return cursor.fetchall() if cursor.description else []


@lru_cache(maxsize=256)
def _query(function: str, names: tuple[str, ...]) -> bytes:
    # to_json is what PostgREST answers with, so uuids and times come out the same on each transport.
    named = sql.SQL(", ").join(sql.SQL("{} => {}").format(sql.Identifier(n), sql.Placeholder(n)) for n in names)
    query = sql.SQL("SELECT pg_catalog.to_json(public.{}({}))")
    return query.format(sql.Identifier(function), named).as_bytes()


@lru_cache(maxsize=16)
def _early_query(function: str, names: tuple[str, ...]) -> bytes:
    # Statements in one message are one transaction, which BEGIN and COMMIT end; after an error nothing is left open.
    return (
        b"SET LOCAL synchronous_commit = off; "
        + _query(function, names)
        + b"; BEGIN; COMMIT; SELECT public.llm_common_flush()"
    )


def _parameters(arguments: Mapping[str, Json]) -> dict[str, str | None]:
    return {name: _parameter(name, value) for name, value in arguments.items()}


def _parameter(name: str, value: Json) -> str | None:
    """Text of no stated type: PostgreSQL reads it as the parameter's type, as it does for PostgREST."""
    if value is None or isinstance(value, str):
        return value
    try:
        return _encode(value)
    except ValueError:
        raise InvalidInputError(f"{name} has NaN or infinity in it, which JSON cannot carry") from None


def _only_value(row: TupleRow | None) -> Json:
    return row[0] if row else None


@contextmanager
def _our_errors() -> Generator[None]:
    try:
        yield
    except psycopg.Error as error:
        # Not chained: what psycopg prints has the DETAIL with the values in it.
        raise _translated(error) from None
    except UnicodeError:
        raise not_storable() from None


def _translated(error: psycopg.Error) -> LLMCommonError:
    if error.sqlstate:
        return database_error(error.sqlstate, error.diag.message_primary or "", error.diag.message_detail)
    if isinstance(error, psycopg.DataError):  # raised before sending, for text with a NUL
        return not_storable()
    if isinstance(error, psycopg.OperationalError):
        return DatabaseUnavailableError(f"the connection to the database failed: {presentable(str(error))}")
    return DatabaseError(f"the database driver failed: {type(error).__name__}: {presentable(str(error))}")
