"""Apply `migrations/*.sql`: each file once, all that are pending or none, also when several processes start at once.

What was applied is in `public.llm_common_migrations` with a checksum. The files are idempotent, so a host that
applies them with psql or the Supabase CLI may call this afterwards, or never.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from llm_common.db.transport import Execute
from llm_common.exceptions import DatabaseError, DatabaseUnavailableError, MigrationError

__all__ = ["Migration", "MigrationState", "Rehearsal", "apply", "migrations", "rehearse", "states"]

Transaction = Callable[[], AbstractAsyncContextManager[Execute]]

_PACKAGE = Path(__file__).parents[1]
# The key is any number that nobody else is likely to use.
_LOCK = b"SELECT pg_catalog.pg_advisory_xact_lock(8330216441909514053)"
_TABLE_EXISTS = b"SELECT pg_catalog.to_regclass('public.llm_common_migrations') IS NOT NULL"
_APPLIED = b"SELECT name, checksum FROM public.llm_common_migrations"
_NOTES_EXIST = b"SELECT pg_catalog.to_regclass('pg_temp.llm_common_notes') IS NOT NULL"
_NOTES = b"SELECT note FROM pg_temp.llm_common_notes"
_RECORD = b"INSERT INTO public.llm_common_migrations (name, checksum) VALUES (%s, %s)"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `migrations/`."""

    name: str
    sql: bytes

    @property
    def checksum(self) -> str:
        return sha256(self.sql).hexdigest()

    @property
    def statements(self) -> bytes:
        """Without the BEGIN and COMMIT that the file has for psql: it is part of a larger transaction here."""
        return self.sql.replace(b"\nBEGIN;\n", b"\n", 1).removesuffix(b"COMMIT;\n")


@dataclass(frozen=True, slots=True)
class MigrationState:
    """`changed`: what was applied under this name is not what we have now."""

    name: str
    state: Literal["applied", "pending", "changed"]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What `migrate` would do: the files, and what happens to the host's own tables, one sentence each."""

    names: tuple[str, ...]
    notes: tuple[str, ...]


class _UndoneError(Exception):
    """Rolls the transaction of a rehearsal back."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        super().__init__()
        self.rehearsal = rehearsal


def migrations() -> list[Migration]:
    """Ours, in order: from inside the wheel, or from the repository in an editable install."""
    folders = [_PACKAGE / "_migrations", _PACKAGE.parent / "migrations"]
    folder = next(filter(Path.is_dir, folders), None)
    if folder is None:
        raise MigrationError(f"the migrations are missing from this installation: no {folders[0]}; install it again")
    # A checkout on Windows may have CRLF; the checksum is of the content.
    files = sorted(folder.glob("*.sql"))
    return [Migration(file.name, file.read_bytes().replace(b"\r\n", b"\n")) for file in files]


async def apply(transaction: Transaction, ours: Sequence[Migration] | None = None) -> list[str]:
    """Apply what is pending, in one transaction, and return its names. Raises `MigrationError`: nothing was changed."""
    async with transaction() as execute:
        return await _apply_all(execute, migrations() if ours is None else ours)


async def rehearse(transaction: Transaction) -> Rehearsal:
    """Apply what is pending, note what that comes to, and undo it. Raises `MigrationError` as `apply` would."""
    try:
        async with transaction() as execute:
            await _rehearse(execute)
    except _UndoneError as undone:
        return undone.rehearsal
    raise AssertionError("a rehearsal is undone")


async def _rehearse(execute: Execute) -> None:
    names = await _apply_all(execute, migrations())
    [[noted]] = await execute(_NOTES_EXIST, ())
    notes = await execute(_NOTES, ()) if noted else []
    raise _UndoneError(Rehearsal(tuple(names), tuple(str(note) for (note,) in notes)))


async def _apply_all(execute: Execute, ours: Sequence[Migration]) -> list[str]:
    await execute(_LOCK, ())
    await execute(b"SET LOCAL statement_timeout = 0", ())
    return [migration.name for migration in ours if await _apply_one(execute, migration)]


async def states(transaction: Transaction) -> list[MigrationState]:
    """How this database stands to our files. Changes nothing; files of a newer version are not shown."""
    async with transaction() as execute:
        applied = await _applied(execute)
    return [MigrationState(migration.name, _state(migration, applied)) for migration in migrations()]


async def _apply_one(execute: Execute, migration: Migration) -> bool:
    state = _state(migration, await _applied(execute))
    if state == "changed":
        raise MigrationError(
            f"migration {migration.name} was applied to this database with another content. An applied file must "
            "not be edited: restore it, and put the change into a new file."
        )
    if state == "applied":
        return False
    try:
        await execute(migration.statements, ())
        await execute(_RECORD, (migration.name, migration.checksum))
    except DatabaseUnavailableError:
        raise
    except DatabaseError as error:
        raise MigrationError(f"migration {migration.name} failed: {error}", sqlstate=error.sqlstate) from error
    return True


async def _applied(execute: Execute) -> dict[str, str]:
    [[exists]] = await execute(_TABLE_EXISTS, ())
    return dict(await execute(_APPLIED, ())) if exists else {}


def _state(migration: Migration, applied: dict[str, str]) -> Literal["applied", "pending", "changed"]:
    recorded = applied.get(migration.name)
    if recorded is None:
        return "pending"
    return "applied" if recorded == migration.checksum else "changed"
