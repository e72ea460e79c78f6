"""PostgreSQL 15, as Debian brings it, beside the embedded 18."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

_DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="session")
def debian_15_server(scratch_dir: str | None) -> Iterator[str]:
    """A temporary server without Supabase's roles."""
    if not (_DEBIAN_15 / "initdb").exists():
        pytest.skip("Debian's PostgreSQL 15 is not installed")
    with tempfile.TemporaryDirectory(prefix="llm-common-tests-", dir=scratch_dir) as name:
        data = Path(name) / "data"
        data.mkdir(mode=0o700)
        identity: dict = {}
        if os.geteuid() == 0:
            # The package creates the user postgres.
            identity = {"user": "postgres", "group": "postgres", "extra_groups": []}
            subprocess.run(["chown", "-R", "postgres:postgres", name], check=True)

        def run(program: str, *arguments: str) -> None:
            subprocess.run(
                [_DEBIAN_15 / program, *arguments],
                check=True,
                cwd="/",
                stdout=subprocess.DEVNULL,
                timeout=60,
                **identity,
            )

        run("initdb", "--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", f"--pgdata={data}")
        options = f"--options=-c listen_addresses='' -c unix_socket_directories={name} -c fsync=off"
        run("pg_ctl", "start", "--wait", f"--pgdata={data}", f"--log={name}/log", options)
        try:
            yield make_conninfo(host=name, user="postgres", dbname="postgres")
        finally:
            run("pg_ctl", "stop", "--mode=immediate", f"--pgdata={data}")


@pytest.fixture
def debian_15(debian_15_server: str) -> str:
    """An empty database on PostgreSQL 15."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(debian_15_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return make_conninfo(debian_15_server, dbname=name)


@pytest.fixture(params=[18, 15])
def any_empty_dsn(request: pytest.FixtureRequest) -> str:
    """An empty database on each version that we support."""
    return request.getfixturevalue("empty_dsn" if request.param == 18 else "debian_15")
