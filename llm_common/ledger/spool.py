"""The file that costs wait in while the ledger's database cannot be reached.

One JSON object a line, appended and on disk (fsync) before `reserve` and `append` return. Writers of all processes on
a machine take turns by a lock on the file; it needs a local disk and a POSIX system. A last line that a crash tore off
was never acknowledged, so nothing was sent for it, and the next writer cuts it away. There are names, tokens and
amounts in it, never prompts or answers; only its owner may read it.
"""

import fcntl
import json
import logging
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast
from uuid import uuid4

from llm_common.db.transport import Json
from llm_common.exceptions import DatabaseError
from llm_common.money import budget_refusal

__all__ = ["Operation", "Spool", "SpoolLine"]

_log = logging.getLogger(__name__)

#: `reserve` of an id that is there already makes it larger.
Operation: TypeAlias = Literal["reserve", "settle", "release", "record"]
SpoolLine: TypeAlias = Mapping[str, Any]


@dataclass(slots=True)
class _Amount:
    """What one call counts against the allowance: its bound, then its cost, save what the database has set aside."""

    nano: int
    covered_nano: int
    settled: bool = False

    @property
    def own(self) -> int:
        return max(0, self.nano - self.covered_nano)


@dataclass(slots=True)
class _Seen:
    """What is known of the file up to `offset`. Each time the file was emptied it begins with another `name`."""

    name: str = ""
    offset: int = 0
    amounts: dict[str, _Amount] = field(default_factory=dict[str, _Amount])

    def take(self, line: SpoolLine) -> None:
        operation, call_id = line["operation"], line["id"]
        if operation == "reserve":
            self.amounts[call_id] = _Amount(line["call"]["bound_nano"], line["covered_nano"])
        elif operation == "settle" and call_id in self.amounts:
            known = self.amounts[call_id]
            known.nano, known.settled = line["outcome"]["cost_nano"], True
        elif operation == "release":
            self.amounts.pop(call_id, None)

    def own(self, *, settled: bool) -> int:
        return sum(amount.own for amount in self.amounts.values() if amount.settled is settled)


class Spool:
    """Blocking: for threads. `allowance_nano` is for all that waits in the file, whichever process wrote it."""

    def __init__(self, path: Path, allowance_nano: int) -> None:
        self.path = path
        self._allowance_nano = allowance_nano
        self._seen = _Seen()

    @property
    def waits(self) -> bool:
        """Whether there is something to replay."""
        try:
            return self.path.stat().st_size > 0
        except FileNotFoundError:
            return False

    def reserve(self, call: Mapping[str, Json], *, covered_nano: int, **facts: Json) -> None:
        """Write down that a call may be sent. Raises `BudgetExceededError` where the allowance does not cover it.

        `covered_nano` is what the database has set aside for it; a call that is in the file keeps what it said first.
        """
        call_id, bound = str(call["id"]), cast("int", call["bound_nano"])
        with self._locked() as file:
            self._catch_up(file)
            known = self._seen.amounts.pop(call_id, None)
            wanted = _Amount(bound, covered_nano if known is None else known.covered_nano)
            spent, reserved = self._seen.own(settled=True), self._seen.own(settled=False)
            if known is not None:
                self._seen.amounts[call_id] = known
            if wanted.own and spent + reserved + wanted.own > self._allowance_nano:
                raise budget_refusal(
                    budget="spool allowance (the ledger's database cannot be reached)",
                    limit_nano=self._allowance_nano,
                    spent_nano=spent,
                    reserved_nano=reserved,
                    requested_nano=wanted.own,
                    resets_at=None,
                )
            line = {"operation": "reserve", "id": call_id, "call": dict(call), "covered_nano": wanted.covered_nano}
            self._write(file, {**line, **facts})

    def append(self, operation: Operation, call_id: str, **facts: Json) -> None:
        """Write down what became of a call, or what was paid without a reserve."""
        with self._locked() as file:
            self._catch_up(file)
            self._write(file, {"operation": operation, "id": call_id, **facts})

    def holds(self, call_id: str) -> bool:
        """Whether the call's reserve is in the file."""
        with self._locked() as file:
            self._catch_up(file)
            return call_id in self._seen.amounts

    def read(self) -> tuple[list[SpoolLine], int]:
        """All lines, and where they end. A line that cannot be read is moved to the file's `.refused` neighbour."""
        with self._locked() as file:
            self._cut_torn_line(file)
            content = os.pread(file, os.fstat(file).st_size, 0)
        lines: list[SpoolLine] = []
        for text in content.splitlines()[1:]:
            line = _parsed(text)
            if line is None:
                self.refuse(text.decode(errors="replace"), "it is no line of a spool")
            else:
                lines.append(line)
        return lines, len(content)

    def clear(self, end: int) -> bool:
        """Empty the file if it still ends at `end`; False where lines were added since."""
        with self._locked() as file:
            if os.fstat(file).st_size != end:
                return False
            os.ftruncate(file, 0)
            os.fsync(file)
            return True

    def refuse(self, text: str, reason: str) -> None:
        """Keep apart what cannot be replayed, for people to look at."""
        apart = self.path.with_name(self.path.name + ".refused")
        _log.error("a line of spool %s was moved to %s: %s", self.path, apart, reason)
        with _opened(apart) as file:
            _append(file, text.encode() + b"\n")

    @contextmanager
    def _locked(self) -> Generator[int]:
        try:
            with _opened(self.path) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
        except OSError as error:
            raise DatabaseError(
                f"spool {self.path} cannot be used: {error}. Nothing was sent that is not in it; "
                "make room or choose another spool_path"
            ) from error

    def _catch_up(self, file: int) -> None:
        self._cut_torn_line(file)
        first, _, _ = os.pread(file, 100, 0).partition(b"\n")
        name, seen = first.decode(), self._seen
        if name != seen.name:
            seen = self._seen = _Seen(name, len(first) + 1 if first else 0)
        size = os.fstat(file).st_size
        for text in os.pread(file, size - seen.offset, seen.offset).splitlines():
            line = _parsed(text)
            if line is not None:
                seen.take(line)
        seen.offset = size

    def _cut_torn_line(self, file: int) -> None:
        content_end = os.fstat(file).st_size
        if not content_end or os.pread(file, 1, content_end - 1) == b"\n":
            return
        whole = os.pread(file, content_end, 0).rfind(b"\n") + 1
        _log.warning("spool %s: the last line was torn off by a crash; nothing was sent for it", self.path)
        os.ftruncate(file, whole)

    def _write(self, file: int, line: SpoolLine) -> None:
        text = json.dumps(line, allow_nan=False).encode() + b"\n"
        if not os.fstat(file).st_size:
            text = json.dumps({"spool": uuid4().hex}).encode() + b"\n" + text
        _append(file, text)
        _sync_folder(self.path.parent)


def _append(file: int, text: bytes) -> None:
    """All of it or nothing, and on disk."""
    before = os.fstat(file).st_size
    try:
        written = 0
        while written < len(text):
            written += os.write(file, text[written:])
        os.fsync(file)
    except OSError:
        os.ftruncate(file, before)
        raise


@contextmanager
def _opened(path: Path) -> Generator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(file, 0o600)
        yield file
    finally:
        os.close(file)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _parsed(text: bytes) -> SpoolLine | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return cast("SpoolLine", line) if isinstance(line, dict) and "operation" in line else None
