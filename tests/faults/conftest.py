"""A transaction pooler between tests and the server."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
SERVER_CONNECTIONS = 2

_CONFIGURATION = """
[databases]
* = host={server} port={port} user=postgres

[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = 6432
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
logfile = {folder}/log
"""


@contextmanager
def _running(folder: str, server: str, port: str) -> Generator[None]:
    """As the user whom the server's socket belongs to: pgbouncer refuses to be root."""
    owner = Path(server).stat()
    configuration = Path(folder) / "pgbouncer.ini"
    configuration.write_text(_CONFIGURATION.format(server=server, port=port, folder=folder, size=SERVER_CONNECTIONS))
    os.chown(folder, owner.st_uid, owner.st_gid)
    os.chown(configuration, owner.st_uid, owner.st_gid)
    other: dict[str, Any] = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    command = [str(PGBOUNCER), "--quiet", str(configuration)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, **(other if os.geteuid() == 0 else {})) as pooler:
        try:
            _wait_for(Path(folder) / ".s.PGSQL.6432", pooler)
            yield
        finally:
            pooler.kill()


def _wait_for(socket: Path, pooler: subprocess.Popen[Any]) -> None:
    for _ in range(500):
        if socket.exists():
            return
        assert pooler.poll() is None, pooler.communicate()[1]
        time.sleep(0.02)
    raise TimeoutError(f"pgbouncer did not open {socket} within 10 s")


@pytest.fixture(scope="module")
def pooler(postgres_server: Any, scratch_dir: str | None) -> Generator[str]:
    """The folder of its socket. Two connections to the server for all clients."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    parts = conninfo_to_dict(postgres_server.dsn)
    folder = tempfile.mkdtemp(prefix="llm-common-pooler-", dir=scratch_dir)
    try:
        with _running(folder, str(parts["host"]), str(parts.get("port", 5432))):
            yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def pooled_dsn(dsn: str, pooler: str) -> str:
    return make_conninfo(dsn, host=pooler, port=6432)
