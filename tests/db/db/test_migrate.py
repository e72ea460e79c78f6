"""Applying migrations: once, whole or not at all, by one process at a time."""

import asyncio
import re
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

import llm_common
from llm_common.db import cluster, migrate
from llm_common.db.database import Database
from llm_common.db.migrate import Migration
from llm_common.exceptions import MigrationError
from tests.support.catalog import objects

_FIRST = migrate.migrations()[0]
_OURS = [
    _FIRST,
    Migration("20990101000000_a.sql", b"CREATE TABLE public.a (n int);\nINSERT INTO public.a VALUES (1);"),
    Migration("20990101000001_b.sql", b"INSERT INTO public.a VALUES (2);"),
]


def rows(dsn: str, query: str) -> list[tuple]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


async def applied_to(dsn: str, ours: list[Migration]) -> list[str]:
    async with Database.connect(dsn) as database:
        return await migrate.apply(database._sql_transport().transaction, ours)


async def test_each_file_is_applied_once(empty_dsn: str) -> None:
    """The first time all of them, in order; then only what is new."""
    assert await applied_to(empty_dsn, _OURS[:2]) == [_FIRST.name, "20990101000000_a.sql"]
    assert await applied_to(empty_dsn, _OURS) == ["20990101000001_b.sql"]
    assert await applied_to(empty_dsn, _OURS) == []
    assert rows(empty_dsn, "SELECT n FROM a ORDER BY n") == [(1,), (2,)]


async def test_processes_that_migrate_at_once_apply_once(empty_dsn: str) -> None:
    """Of several that start together, one applies each file, and all of them succeed."""
    done = await asyncio.gather(*(applied_to(empty_dsn, _OURS) for _ in range(6)))
    assert sorted(name for names in done for name in names) == sorted(m.name for m in _OURS)
    assert rows(empty_dsn, "SELECT count(*) FROM a") == [(2,)]


async def test_a_file_that_fails_leaves_nothing_behind(empty_dsn: str) -> None:
    """All that was pending is one transaction: what any of it did before one failed is undone."""
    broken = Migration("20990101000002_c.sql", b"CREATE TABLE public.c (); SELECT 1 / 0;")
    with pytest.raises(
        MigrationError, match=r"20990101000002_c\.sql failed, and nothing was changed: .*division by zero"
    ) as caught:
        await applied_to(empty_dsn, [*_OURS, broken])
    assert caught.value.sqlstate == "22012"
    assert rows(empty_dsn, "SELECT to_regclass('public.c')") == [(None,)]
    repaired = Migration(broken.name, b"CREATE TABLE public.c ();")
    assert await applied_to(empty_dsn, [*_OURS, repaired]) == [*(ours.name for ours in _OURS), broken.name]


async def test_an_edited_file_is_refused_by_name(empty_dsn: str) -> None:
    """What was applied must not change afterwards."""
    await applied_to(empty_dsn, _OURS)
    edited = Migration(_OURS[1].name, b"CREATE TABLE public.a (n bigint);")
    with pytest.raises(MigrationError, match=r"20990101000000_a\.sql was applied .* with another content"):
        await applied_to(empty_dsn, [_FIRST, edited])


async def test_files_of_a_newer_version_do_not_matter(empty_dsn: str) -> None:
    """An older deploy works with a database that a newer one has migrated."""
    await applied_to(empty_dsn, _OURS)
    assert await applied_to(empty_dsn, _OURS[:1]) == []


async def test_states_show_what_is_missing(empty_dsn: str, dsn: str) -> None:
    """Before migrating every file is pending, afterwards applied; looking changes nothing."""
    for url, expected in ((empty_dsn, "pending"), (dsn, "applied")):
        async with Database.connect(url) as database:
            states = await database.migrations()
        assert [state.name for state in states] == [migration.name for migration in migrate.migrations()]
        assert {state.state for state in states} == {expected}
    assert rows(empty_dsn, "SELECT to_regclass('public.llm_common_migrations')") == [(None,)]
    rows_changed = "UPDATE llm_common_migrations SET checksum = 'x' WHERE name = %s RETURNING 1"
    with psycopg.connect(dsn) as connection:
        connection.execute(rows_changed, [_FIRST.name])
    async with Database.connect(dsn) as database:
        assert [s.name for s in await database.migrations() if s.state == "changed"] == [_FIRST.name]


async def test_what_psql_applied_is_known(empty_dsn: str) -> None:
    """The files run with psql, twice, and have written themselves down: nothing is left for `migrate`."""
    for _ in range(2):
        with_psql(empty_dsn)
    async with Database.connect(empty_dsn) as database:
        assert {state.state for state in await database.migrations()} == {"applied"}
        assert await database.migrate() == []


async def test_a_newer_database_is_told_of(dsn: str) -> None:
    """What a later version applied is named, and what came before the first release is not."""
    with psycopg.connect(dsn) as connection:
        for name in ("20261121000100_cost_ledger.sql", "20990101000000_later.sql"):
            connection.execute("SELECT llm_common_record(%s, 'x')", [name])
    async with Database.connect(dsn) as database:
        states = await database.migrations()
        assert [s.name for s in states if s.state != "applied"] == ["20990101000000_later.sql"]
        assert states[-1].state == "newer"
        assert await database.migrate() == []


@pytest.mark.parametrize(
    "setting",
    [
        "standard_conforming_strings = off",
        "default_transaction_isolation = serializable",
        "lock_timeout = '1ms'",
        "statement_timeout = '500ms'",
        "search_path = hostile",
        "timezone = 'America/Los_Angeles'",
        "check_function_bodies = off",
    ],
)
async def test_settings_of_the_database_do_not_matter(empty_dsn: str, dsn: str, setting: str) -> None:
    """The migrations pin what they rest on, and several processes may still wait for each other."""
    hostile = "CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT 1 / 0 $$"
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA hostile; CREATE TABLE hostile.pg_roles ()")
        connection.execute(hostile.replace("SELECT 1 / 0", "SELECT NULL::timestamptz"))
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET {setting}")
    async with Database.connect(empty_dsn) as database:
        done = await asyncio.gather(*(database.migrate() for _ in range(3)))
    assert sorted(name for names in done for name in names) == [m.name for m in migrate.migrations()]
    assert objects(empty_dsn) == objects(dsn)


async def test_a_table_that_is_held_is_not_waited_for_without_end(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody behind a migration that waits for a table waits too: it gives up, says why, and has changed nothing."""
    monkeypatch.setattr(migrate, "_PATIENCE", b"SET LOCAL lock_timeout = '50ms'")
    with psycopg.connect(dsn) as holder:
        holder.execute("LOCK TABLE cost_tracking IN ACCESS SHARE MODE")
        async with Database.connect(dsn) as database:
            with pytest.raises(MigrationError, match=r"ledger\.sql waited .* nothing was changed"):
                await database.migrate(repeat=True)


def with_psql(dsn: str) -> None:
    psql = shutil.which("psql") or cluster.programs() / "psql"
    files = [argument for file in files_of_the_repository() for argument in ("-f", str(file))]
    subprocess.run(
        [psql, dsn, "-q", "-X", "-v", "ON_ERROR_STOP=1", *files], check=True, capture_output=True, timeout=60
    )


def files_of_the_repository() -> list[Path]:
    return sorted((Path(llm_common.__file__).parent.parent / "migrations").glob("*.sql"))


@pytest.mark.parametrize("file", files_of_the_repository(), ids=lambda file: file.stem)
def test_files_are_as_they_should_be(file: Path) -> None:
    """Named as Supabase wants it, one transaction for psql; at its end the API is told and the file written down."""
    text = file.read_text()
    assert re.fullmatch(r"\d{14}_[a-z_]+\.sql", file.name)
    assert re.findall(r"^(BEGIN|COMMIT|START TRANSACTION);", text, flags=re.MULTILINE) == ["BEGIN", "COMMIT"]
    checksum = Migration(file.name, file.read_bytes()).checksum
    end = f"NOTIFY pgrst, 'reload schema';\nSELECT public.llm_common_record('{file.name}', '{checksum}');\nCOMMIT;\n"
    assert text.endswith(end), "the checksum is of another content: run `make docs`"


def test_versions_are_unique() -> None:
    """The Supabase CLI knows a migration by its number alone."""
    versions = [file.name.split("_")[0] for file in files_of_the_repository()]
    assert len(versions) == len(set(versions))


def test_line_ends_do_not_change_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout with CRLF is the same migration; inside a wheel the files lie in the package."""
    package = tmp_path / "llm_common"
    (package / "_migrations").mkdir(parents=True)
    for file in files_of_the_repository():
        (package / "_migrations" / file.name).write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    ours = migrate.migrations()
    monkeypatch.setattr(migrate, "_PACKAGE", package)
    assert migrate.migrations() == ours


def test_an_installation_without_migrations_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to apply is not the same as everything applied."""
    monkeypatch.setattr(migrate, "_PACKAGE", tmp_path / "llm_common")
    with pytest.raises(MigrationError, match="missing from this installation"):
        migrate.migrations()
