"""The Postgres inside the wheel: for laptops, demos and tests, with nothing to install.

Layout of a data folder: `cluster/` is PostgreSQL's own, `log` its log, `users.lock` and `start.lock` are
locks. A process that uses the server holds `users.lock` shared for as long as it lives, so the kernel knows
the users, also when one is killed. At exit, who gets the lock exclusively was the last and stops the server
(0.1 s, as is the next start); a killed last user leaves it running for the next one to use and stop.

The server listens on a socket inside the folder, which only its owner can open, and on no network address.
The wheel's own `get_server` is not used: its list of users keeps killed processes for ever, and as root it
makes every folder up to `/` readable.
"""

import atexit
import os
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from platformdirs import user_data_path

from llm_common._runtime.fork import fork_safe_lock
from llm_common.db import cluster
from llm_common.exceptions import ConfigurationError, DatabaseUnavailableError
from llm_common.settings import Settings

if sys.platform == "win32":
    raise ConfigurationError("the embedded Postgres runs on Linux and macOS; set DATABASE_URL, or use WSL")
import fcntl

__all__ = ["EmbeddedStatus", "default_data_dir", "start", "status", "stop"]


@dataclass(frozen=True, slots=True)
class EmbeddedStatus:
    """What `llm-common db status` shows. `version` is PostgreSQL's major version, None before the first start."""

    running: bool
    data_dir: Path
    dsn: str | None
    pid: int | None
    version: str | None


def default_data_dir() -> Path:
    """`LLM_COMMON_DATA_DIR`, else the platform's folder for user data."""
    configured = Settings.from_environment().data_dir
    if configured is not None:
        return configured
    return user_data_path("llm-common") / "postgres"


def start(data_dir: Path | str | None = None) -> str:
    """The DSN of the embedded server, which is started (and first created) where it does not run.

    Safe to call from many threads and processes at once; when the server runs this takes well under a
    millisecond. Raises `ConfigurationError` for a folder that cannot be used, `DatabaseUnavailableError` when
    the server does not start.
    """
    folder = _folder(data_dir)
    with _explained(folder), _in_this_process:
        _use(folder)
        return _running_dsn(folder) or _start_stopped(folder)


def status(data_dir: Path | str | None = None) -> EmbeddedStatus:
    """Whether the server runs, and where. Changes nothing."""
    folder = _folder(data_dir)
    with _explained(folder):
        dsn = _running_dsn(folder)
        lines = _ready_postmaster(folder) if dsn else []
        return EmbeddedStatus(
            running=bool(lines),
            data_dir=folder,
            dsn=dsn,
            pid=int(lines[0]) if lines else None,
            version=cluster.version(folder),
        )


def stop(data_dir: Path | str | None = None) -> bool:
    """Stop the server, whoever started it; open connections end. False where it did not run."""
    folder = _folder(data_dir)
    with _explained(folder):
        if _running_dsn(folder) is None:
            return False
        with _exclusively(folder / "start.lock"):
            if _running_dsn(folder) is None:
                return False
            cluster.stop(folder)
    return True


# Users of a data folder: a process holds `users.lock` shared until it ends.

_in_this_process = fork_safe_lock()
_locks: dict[tuple[int, Path], int] = {}


def _use(folder: Path) -> None:
    """Become a user. Waits for a last user that is just stopping the server."""
    user = (os.getpid(), folder)  # a forked child becomes a user of its own
    if user not in _locks:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_SH)
        _locks[user] = lock
        atexit.register(_leave, *user)


def _leave(pid: int, folder: Path) -> None:
    if pid != os.getpid():
        return
    try:
        fcntl.flock(_locks[pid, folder], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # others use it; the last of them stops it
    stop(folder)


@contextmanager
def _exclusively(path: Path) -> Generator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


# The server


def _start_stopped(folder: Path) -> str:
    with _exclusively(folder / "start.lock"):
        dsn = _running_dsn(folder)
        if dsn is None:
            cluster.create(folder)
            cluster.start(folder)
            dsn = _running_dsn(folder)
    if dsn is None:
        raise DatabaseUnavailableError(f"the embedded Postgres ended right after its start; see {cluster.log(folder)}")
    return dsn


def _running_dsn(folder: Path) -> str | None:
    """Reads `postmaster.pid` and knocks at the socket: the file alone may be left from a server that was killed."""
    lines = _ready_postmaster(folder)
    if not lines:
        return None
    port, socket_dir = lines[3], lines[4]
    with socket.socket(socket.AF_UNIX) as knock:
        try:
            knock.connect(f"{socket_dir}/.s.PGSQL.{port}")
        except (FileNotFoundError, ConnectionRefusedError):
            return None
    return f"postgresql://postgres@/{cluster.DATABASE}?host={quote(socket_dir, safe='')}&port={port}"


def _ready_postmaster(folder: Path) -> list[str]:
    """The lines of `postmaster.pid`: pid, data folder, start time, port, socket folder, address, memory, status."""
    try:
        lines = (cluster.path(folder) / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []
    return lines if lines[7:] and lines[7].strip() == "ready" else []


def _folder(data_dir: Path | str | None) -> Path:
    folder = (default_data_dir() if data_dir is None else Path(data_dir)).expanduser().resolve()
    if file := next((place for place in (folder, *folder.parents) if place.is_file()), None):
        raise ConfigurationError(f"data folder {file} is a file; give the embedded Postgres a folder of its own")
    return folder


@contextmanager
def _explained(folder: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"data folder {folder} cannot be used: {error.strerror}: {error.filename}. Choose another folder with "
            "LLM_COMMON_DATA_DIR, or a Postgres of your own with DATABASE_URL."
        ) from error
