"""Programs that a test starts: each wait for one is bounded, and ends at once when it dies, with what it wrote."""

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO

__all__ = ["Program", "running"]

#: Nothing that a test waits for takes longer, however busy the machine is.
PATIENCE = 90.0


class Program:
    """A started program, read and written by lines. Every wait raises `AssertionError` with its standard error."""

    def __init__(self, process: "subprocess.Popen[bytes]", errors: IO[bytes]) -> None:
        self.process = process
        self._errors = errors
        self._read = b""

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, line: str = "") -> None:
        """Write one line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def line(self, seconds: float = PATIENCE) -> str:
        """The next line of its standard output, without the line's end."""
        assert self.process.stdout is not None
        ends = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._read:
                if not selector.select(max(0.0, ends - time.monotonic())):
                    raise self._failure(f"said nothing within {seconds:g} s")
                piece = os.read(self.process.stdout.fileno(), 65536)
                if not piece:
                    raise self._failure(f"ended with {self.process.wait(PATIENCE)} before it said anything more")
                self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return line.decode().rstrip("\r")

    def finish(self, seconds: float = PATIENCE, *, code: int = 0) -> str:
        """Close its standard input, wait for its end, and give the rest of what it said. `code` is expected."""
        try:
            rest, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise self._failure(f"did not end within {seconds:g} s") from None
        if self.process.returncode != code:
            raise self._failure(f"ended with {self.process.returncode}, not {code}")
        return (self._read + (rest or b"")).decode()

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def errors(self) -> str:
        """What it wrote to its standard error so far."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def _failure(self, what: str) -> AssertionError:
        return AssertionError(f"{self.process.args!r} {what}. Standard error:\n{self.errors()[-4000:]}")


@contextmanager
def running(*arguments: object, env: Mapping[str, str] | None = None) -> Iterator[Program]:
    """`python *arguments` in a session of its own; whatever of it is still there at the end is killed."""
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=None if env is None else dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield Program(process, errors)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
