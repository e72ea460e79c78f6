"""The embedded Postgres, with real processes that come, go and are killed."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from llm_common.db import cluster, embedded
from llm_common.db.database import Database
from llm_common.exceptions import ConfigurationError

_USE_UNTIL_TOLD = (
    "from llm_common.db import embedded; import sys; print(embedded.start(sys.argv[1]), flush=True); input()"
)


@pytest.fixture(scope="module")
def made(scratch_dir: str | None) -> Iterator[Path]:
    """A data folder whose server was made and stopped; copying it is quicker than making one for each test."""
    with tempfile.TemporaryDirectory(prefix="llm-common-tests-", dir=scratch_dir) as name:
        embedded.start(name)
        embedded.stop(name)
        yield Path(name) / "cluster"


@pytest.fixture
def home(scratch_dir: str | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="llm-common-tests-", dir=scratch_dir) as name:
        yield Path(name)


@pytest.fixture
def new_folder(home: Path) -> Iterator[Path]:
    yield home / "postgres"
    embedded.stop(home / "postgres")


@pytest.fixture
def folder(new_folder: Path, made: Path) -> Path:
    new_folder.mkdir()
    subprocess.run(["cp", "-a", str(made), str(new_folder)], check=True)
    return new_folder


@contextmanager
def user_process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that uses the server; it leaves when its standard input closes. Yields it and its DSN."""
    with starting_process(folder) as process:
        yield process, said(process)


def starting_process(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _USE_UNTIL_TOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def leave(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=30)
    assert process.returncode == 0


def test_a_second_start_gives_the_running_server(folder: Path) -> None:
    """Starting twice gives the same server and the same DSN, which leads to our own database."""
    first = embedded.start(folder)
    pid = embedded.status(folder).pid
    assert embedded.start(folder) == first
    assert embedded.status(folder).pid == pid
    with psycopg.connect(first) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("llm_common",)


async def test_the_database_without_a_url_is_the_embedded_one(folder: Path) -> None:
    """`Database.connect(data_dir=...)` starts the server by itself, and can be migrated."""
    async with Database.connect(data_dir=folder) as db:
        assert await db.migrate()
        assert "embedded" in repr(db)


def test_status_tells_what_is_there(new_folder: Path) -> None:
    """Before the first start there is nothing; then a running server; then data without one."""
    assert embedded.status(new_folder) == embedded.EmbeddedStatus(
        running=False, data_dir=new_folder, dsn=None, pid=None, version=None
    )
    dsn = embedded.start(new_folder)
    status = embedded.status(new_folder)
    assert (status.running, status.dsn, status.version) == (True, dsn, "18")
    assert embedded.stop(new_folder) is True
    assert embedded.stop(new_folder) is False
    status = embedded.status(new_folder)
    assert (status.running, status.dsn, status.pid, status.version) == (False, None, None, "18")


def test_processes_that_start_at_once_share_one_server(new_folder: Path) -> None:
    """Processes that find an empty folder at the same time end up with one server."""
    with ExitStack() as running:
        processes = [running.enter_context(starting_process(new_folder)) for _ in range(3)]
        dsns = {said(process) for process in processes}
        assert len(dsns) == 1
        assert dsns != {""}
        for process in processes:
            leave(process)


def test_the_last_user_stops_the_server(folder: Path) -> None:
    """The server goes on while anybody uses it, and stops with the last who leaves."""
    with user_process(folder) as (first, _), user_process(folder) as (second, _):
        leave(first)
        assert embedded.status(folder).running
        leave(second)
        assert not embedded.status(folder).running


def test_a_killed_user_breaks_nothing(folder: Path) -> None:
    """A killed process does not take the server along, and the next user to leave stops it all the same."""
    with user_process(folder) as (killed, dsn):
        killed.kill()
        killed.wait()
        assert embedded.status(folder).running
        with user_process(folder) as (last, other_dsn):
            assert other_dsn == dsn
            leave(last)
        assert not embedded.status(folder).running


def test_a_server_of_another_process_can_be_stopped(folder: Path) -> None:
    """`stop` works for whoever calls it, and a user who starts again afterwards gets a server."""
    with user_process(folder) as (other, _):
        assert embedded.stop(folder) is True
        assert not embedded.status(folder).running
        assert embedded.start(folder)
        leave(other)


def test_a_killed_server_is_started_again(folder: Path) -> None:
    """After a crash of the server its files are still there; a new one recovers the data."""
    with psycopg.connect(embedded.start(folder), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('kept')")
    crash(folder)
    assert not embedded.status(folder).running
    with psycopg.connect(embedded.start(folder)) as connection:
        assert connection.execute("SELECT word FROM kept").fetchone() == ("kept",)


def test_a_dead_servers_number_may_belong_to_another_program(folder: Path) -> None:
    """A `postmaster.pid` that names a living process which is no Postgres does not keep the server from starting."""
    embedded.start(folder)
    crash(folder)
    pid_file = cluster.path(folder) / "postmaster.pid"
    _, rest = pid_file.read_text().split("\n", 1)
    # A process of the server's own user: PostgreSQL cares for no other.
    owner = pid_file.stat()
    identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "60"], cwd="/", **identity) as other:
        pid_file.write_text(f"{other.pid}\n{rest}")
        assert embedded.start(folder)
        other.kill()


def test_a_half_made_cluster_is_made_again(new_folder: Path) -> None:
    """What a process left that was killed while it created the data is thrown away."""
    (new_folder / "cluster.new").mkdir(parents=True)
    (new_folder / "cluster.new" / "PG_VERSION").write_text("18\n")
    assert embedded.start(new_folder)
    assert not (new_folder / "cluster.new").exists()


@pytest.mark.parametrize("name", ["with space, comma and 'quote'", "ü" * 40])
def test_the_folder_may_have_any_name(folder: Path, name: str) -> None:
    """Names that a socket's path or PostgreSQL's settings cannot take work too."""
    folder = folder.rename(folder.with_name(name))
    dsn = embedded.start(folder)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    connection.close()
    embedded.stop(folder)
    assert not Path(str(conninfo_to_dict(dsn)["host"])).exists()


def test_nothing_is_printed(new_folder: Path) -> None:
    """A first start with a bare environment writes nothing to standard error, and nothing but ours to output."""
    program = "from llm_common.db import embedded; import sys; embedded.start(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, str(new_folder)], env={"PATH": os.defpath}, capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_the_server_gets_no_keys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment holds, keys and settings for another Postgres among it, is not the server's."""
    monkeypatch.setenv("OPENAI_API_KEY", "my-secret")
    monkeypatch.setenv("PGPORT", "1")
    assert "port=5432" in embedded.start(folder)
    assert b"my-secret" not in Path(f"/proc/{embedded.status(folder).pid}/environ").read_bytes()


def test_a_failed_statement_is_not_logged(folder: Path) -> None:
    """The server's log has no text of statements, which may carry prompts."""
    with psycopg.connect(embedded.start(folder), autocommit=True) as connection, pytest.raises(psycopg.Error):
        connection.execute("SELECT 'a secret prompt'::int")
    assert "secret" not in cluster.log(folder).read_text().replace('integer: "a secret prompt"', "")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """A data folder that is a file is refused by name."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigurationError, match="is a file"):
        embedded.start(file)


def test_a_folder_that_cannot_be_made_is_refused() -> None:
    """Where nobody may write, the error names the folder and the two ways out."""
    with pytest.raises(ConfigurationError, match=r"/proc/llm-common .*LLM_COMMON_DATA_DIR.*DATABASE_URL"):
        embedded.start("/proc/llm-common")


def test_data_of_another_version_is_refused(new_folder: Path) -> None:
    """Data of another major version is left alone."""
    cluster.path(new_folder).mkdir(parents=True)
    (cluster.path(new_folder) / "PG_VERSION").write_text("17\n")
    with pytest.raises(ConfigurationError, match="PostgreSQL 17"):
        embedded.start(new_folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_works_for_an_ordinary_user(home: Path) -> None:
    """Not only root can use it; the data then belongs to that user alone."""
    os.chown(home, 65534, 65534)
    # Becomes somebody else after the imports: the interpreter itself may lie where only root may read.
    program = """
import os, sys
from llm_common.db import embedded
os.setgroups([]), os.setgid(65534), os.setuid(65534)
embedded.start(sys.argv[1])
"""
    subprocess.run([sys.executable, "-c", program, str(home / "data")], env={"PATH": os.defpath}, check=True)
    assert (home / "data" / "cluster").stat().st_mode & 0o777 == 0o700
    assert not embedded.status(home / "data").running


def crash(folder: Path) -> None:
    """Kill the whole server as a power cut would."""
    pid = embedded.status(folder).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # so that it has no child that is not in the list
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    processes = (pid, *map(int, children))
    for each in processes:
        os.kill(each, signal.SIGKILL)
    while any(is_alive(each) for each in processes):
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
