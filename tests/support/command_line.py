"""`llm-common` as its users run it: a process with two outputs and an exit code."""

import io
import logging
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from llm_common.testing import FakeProvider

__all__ = ["answering", "command", "environment", "invoked", "llm_common", "started"]

#: A command that calls anybody but loopback fails.
_GUARDED = "from llm_common.testing import block_network\nfrom llm_common.cli import main\nwith block_network(): main()"
_ENDINGS = ("_API_KEY", "_URL", "_API_BASE")
_TERMINAL = ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS")


def environment(**extra: str) -> dict[str, str]:
    """The process's, without whatever is a setting of ours, and with `extra`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LLM_COMMON") and not name.endswith(_ENDINGS) and name not in _TERMINAL
    }
    return {**kept, **extra}


def answering(provider: FakeProvider, dsn: str | None = None) -> dict[str, str]:
    """The environment in which `provider` stands for the real ones."""
    return {**provider.environment(), **({} if dsn is None else {"DATABASE_URL": dsn})}


def command(*arguments: object) -> list[str]:
    """A command that warns fails too."""
    return [sys.executable, "-W", "error", "-c", _GUARDED, *map(str, arguments)]


def llm_common(
    *arguments: object, stdin: bytes = b"", cwd: Path | None = None, timeout: float = 120, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    done = subprocess.run(
        command(*arguments),
        input=stdin,
        cwd=cwd,
        capture_output=True,
        env=environment(**env),
        timeout=timeout,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def started(*arguments: object, **env: str) -> subprocess.Popen[str]:
    """Begin it."""
    return subprocess.Popen(
        command(*arguments), env=environment(**env), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def invoked(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Run it in this process: the same command, without a second for each start."""
    from llm_common.cli import main

    logs, out, err, code = logging.getLogger(), io.StringIO(), io.StringIO(), 0
    handlers, argv, before = list(logs.handlers), sys.argv, dict(os.environ)
    try:
        sys.argv = ["llm-common", *map(str, arguments)]
        os.environ.clear()
        os.environ.update(environment(**env))
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    finally:
        logs.handlers, sys.argv = handlers, argv
        logging.captureWarnings(capture=False)
        os.environ.clear()
        os.environ.update(before)
    return subprocess.CompletedProcess(list(map(str, arguments)), code, out.getvalue(), err.getvalue())
