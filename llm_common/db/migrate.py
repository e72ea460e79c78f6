"""Applies `migrations/*.sql`: all that waits in one transaction, also when several processes start at once.

Each file writes its name and checksum into `public.llm_common_migrations`, whether it was applied by this module, by
psql or by the Supabase CLI. The files may be applied again.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from llm_common.db.transport import Execute
from llm_common.exceptions import DatabaseError, DatabaseUnavailableError, MigrationError

__all__ = [
    "Conversion",
    "Migration",
    "MigrationPlan",
    "MigrationState",
    "apply",
    "migrations",
    "open_tables",
    "plan",
    "states",
]

Transaction = Callable[[], AbstractAsyncContextManager[Execute]]

_PACKAGE: Final = Path(__file__).parents[1]
# What the files rest on, whatever the database's defaults are. The wait for the lock has no limit, for another process
# may migrate just now; its key is any number that nobody else is likely to use.
_BEGIN: Final = (
    b"SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
    b"SET LOCAL statement_timeout = 0",
    b"SET LOCAL lock_timeout = 0",
    b"SET LOCAL standard_conforming_strings = on",
    b"SELECT pg_catalog.pg_advisory_xact_lock(8330216441909514053)",
)
# A table that somebody uses all along is waited for so long, while those behind us wait too.
_PATIENCE: Final = b"SET LOCAL lock_timeout = '10s'"
_FOUND: Final = b"""
    SELECT CURRENT_USER, t.oid IS NOT NULL, coalesce(pg_catalog.has_table_privilege(t.oid, 'SELECT'), false),
           coalesce(pg_catalog.row_security_active(t.oid), false)
      FROM (SELECT pg_catalog.to_regclass('public.llm_common_migrations') AS oid) t
"""
_RECORDED: Final = b"SELECT name, checksum FROM public.llm_common_migrations"
_RECORD: Final = b"""
    INSERT INTO public.llm_common_migrations (name, checksum) VALUES (%s, %s)
    ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, applied_at = excluded.applied_at
"""
_CONVERSIONS: Final = b"""
    SELECT t.name, public.llm_common_reachers(c.oid, true), public.llm_common_reachers(c.oid, false)
      FROM public.llm_common_tables() t CROSS JOIN LATERAL pg_catalog.to_regclass('public.' || t.name) c (oid)
     WHERE t.state = 'earlier' ORDER BY t.name
"""
_OPEN: Final = b"""
    SELECT p.tablename::text, pg_catalog.array_to_string(p.roles, ', ')
      FROM pg_catalog.pg_policies p WHERE p.schemaname = 'public' AND p.policyname = 'llm_common_as_before' ORDER BY 1
"""
_REPLACED: Final = b"""
    SELECT pg_catalog.format('%s(%s)', f.name, pg_catalog.pg_get_function_identity_arguments(f.called))
      FROM public.llm_common_functions_in_the_way() f ORDER BY 1
"""
_RECORD_LINE: Final = re.compile(rb"^SELECT public\.llm_common_record\(.*\);\n", re.MULTILINE)
_TRANSACTION_LINES: Final = re.compile(rb"^(?:BEGIN|COMMIT);$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `migrations/`."""

    name: str
    sql: bytes

    @property
    def checksum(self) -> str:
        """The SHA-256, in hex, of the file without the line that records it."""
        return sha256(_RECORD_LINE.sub(b"", self.sql)).hexdigest()


@dataclass(frozen=True, slots=True)
class MigrationState:
    """How a database stands to one file.

    `changed`: what was applied under this name is not what we have now. `newer`: a later version of llm_common applied
    it. `hidden`: something was applied, but the role of this connection cannot see what.
    """

    name: str
    state: Literal["applied", "pending", "changed", "newer", "hidden"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """A table of the first schema, which becomes ours with all its `rows`.

    `kept_open`: the roles, if any, that reach it by a grant of the host's, and still do afterwards. `closed_to`: the
    API roles that had all rights on it, as old Supabase projects give them on every table, and lose them.
    """

    table: str
    rows: int
    kept_open: str | None
    closed_to: str | None


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """What `apply` would do: files to apply, tables to convert, functions of the host's to replace."""

    files: tuple[str, ...]
    conversions: tuple[Conversion, ...]
    replaced_functions: tuple[str, ...]


class _Undo(Exception):  # noqa: N818 (nothing went wrong)
    """Rolls back a transaction that was only for looking."""

    def __init__(self, plan: MigrationPlan) -> None:
        super().__init__()
        self.plan = plan


def migrations() -> list[Migration]:
    """Ours, in order: from inside the wheel, or from the repository in an editable install."""
    folders = [_PACKAGE / "_migrations", _PACKAGE.parent / "migrations"]
    folder = next(filter(Path.is_dir, folders), None)
    if folder is None:
        raise MigrationError(f"the migrations are missing from this installation: no {folders[0]}; install it again")
    # A checkout on Windows may have CRLF; the checksum is of the content.
    files = sorted(folder.glob("*.sql"))
    return [Migration(file.name, file.read_bytes().replace(b"\r\n", b"\n")) for file in files]


async def apply(
    transaction: Transaction, ours: Sequence[Migration] | None = None, *, repeat: bool = False
) -> list[str]:
    """Apply what is pending, all or nothing, and return its names; with `repeat` what is applied already as well.

    Raises `MigrationError`, and then nothing changed.
    """
    ours = migrations() if ours is None else ours
    async with transaction() as execute:
        pending = await _pending(execute, ours, repeat=repeat)
        for migration in pending:
            await _apply_one(execute, migration)
    return [migration.name for migration in pending]


async def states(transaction: Transaction) -> list[MigrationState]:
    """How this database stands to our files, and which it has of a newer version. Changes nothing."""
    ours = migrations()
    async with transaction() as execute:
        recorded = await _recorded(execute)
    if recorded is None:
        return [MigrationState(migration.name, "hidden") for migration in ours]
    newer = sorted(name for name in recorded if name > ours[-1].name)
    return [
        *(MigrationState(migration.name, _state(migration, recorded)) for migration in ours),
        *(MigrationState(name, "newer") for name in newer),
    ]


async def open_tables(transaction: Transaction) -> dict[str, str]:
    """The tables that roles of the host's reach as they did before those became ours, with these roles."""
    async with transaction() as execute:
        return dict(await execute(_OPEN, ()))


async def plan(transaction: Transaction) -> MigrationPlan:
    """What `apply` would do to this database. Raises `MigrationError` where it would. Changes nothing."""
    try:
        async with transaction() as execute:
            await _look(execute)
    except _Undo as undo:
        return undo.plan
    raise AssertionError("a look is undone")


async def _look(execute: Execute) -> None:
    pending = await _pending(execute, migrations(), repeat=False)
    if pending:
        # It has the functions that look, and touches no table of the host's.
        await _apply_one(execute, migrations()[0])
    conversions = [
        Conversion(name, await _count(execute, name), kept_open, closed_to)
        for name, kept_open, closed_to in await execute(_CONVERSIONS, ())
    ]
    replaced = tuple(called for (called,) in await execute(_REPLACED, ()))
    raise _Undo(MigrationPlan(tuple(migration.name for migration in pending), tuple(conversions), replaced))


async def _pending(execute: Execute, ours: Sequence[Migration], *, repeat: bool) -> list[Migration]:
    for statement in _BEGIN:
        await execute(statement, ())
    recorded = await _recorded(execute)
    if recorded is None:
        [[role, *_]] = await execute(_FOUND, ())
        raise MigrationError(
            f"this database has our schema, but role {role} cannot see which migrations were applied. Connect as the "
            f"owner of our tables to migrate; to only use them: GRANT llm_common_app TO {role}"
        )
    by_state = {migration: _state(migration, recorded) for migration in ours}
    if changed := [migration.name for migration, state in by_state.items() if state == "changed"]:
        raise MigrationError(
            f"migration {changed[0]} was applied to this database with another content. An applied file must "
            "not be edited: restore it, and put the change into a new file."
        )
    return [migration for migration, state in by_state.items() if repeat or state == "pending"]


async def _apply_one(execute: Execute, migration: Migration) -> None:
    try:
        await execute(_PATIENCE, ())
        await execute(_TRANSACTION_LINES.sub(b"", migration.sql), ())
        await execute(_RECORD, (migration.name, migration.checksum))
    except DatabaseUnavailableError:
        raise
    except DatabaseError as error:
        raise MigrationError(_failure(migration, error), sqlstate=error.sqlstate) from error


def _failure(migration: Migration, error: DatabaseError) -> str:
    if error.sqlstate == "LC010":
        return str(error)
    if error.sqlstate == "55P03":
        return (
            f"migration {migration.name} waited 10 s for a table that a transaction of somebody else's holds, and gave "
            "up: nothing was changed. End that transaction (pg_stat_activity shows it), or try again later."
        )
    return f"migration {migration.name} failed, and nothing was changed: {error}"


async def _recorded(execute: Execute) -> dict[str, str] | None:
    """Name → checksum of what was applied; None where there is something that this role cannot see."""
    [[_, exists, readable, filtered]] = await execute(_FOUND, ())
    if not exists:
        return {}
    recorded: dict[str, str] = dict(await execute(_RECORDED, ())) if readable else {}
    # Whoever made the table has written into it.
    return None if not readable or (filtered and not recorded) else recorded


async def _count(execute: Execute, table: str) -> int:
    # The name is one of our own.
    [[rows]] = await execute(f'SELECT count(*) FROM public."{table}"'.encode(), ())  # noqa: S608
    return rows


def _state(migration: Migration, recorded: Mapping[str, str]) -> Literal["applied", "pending", "changed"]:
    checksum = recorded.get(migration.name)
    if checksum is None:
        return "pending"
    return "applied" if checksum == migration.checksum else "changed"
