"""Bills from files: one text, or all those in a folder."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llm_common.exceptions import InvalidInputError

if TYPE_CHECKING:
    from llm_common.pipeline import Item

__all__ = ["bill_files", "bills_in", "read_bill"]

_SUFFIXES: Final = frozenset({".txt", ".md"})


def bill_files(paths: Iterable[Path]) -> list[Path]:
    """The files themselves, and for a folder its .txt and .md files, by name. A file's stem is the bill's id.

    Raises `InvalidInputError` for what is not there, a folder without bills, and two files of one id.
    """
    files = [file for path in paths for file in (_in_folder(path) if path.is_dir() else [path])]
    by_id: dict[str, Path] = {}
    for file in files:
        if not file.is_file():
            raise InvalidInputError(f"{file} does not exist; give text files, or folders of them")
        if other := by_id.get(file.stem):
            raise InvalidInputError(f"{other} and {file} are both called {file.stem}; rename one of them")
        by_id[file.stem] = file
    return files


def bills_in(paths: Iterable[Path], jurisdiction: str) -> list["Item"]:
    """Each file as an item for `run_many`. Raises `InvalidInputError` for what cannot be read as text."""
    from llm_common.pipeline import Item

    return [Item(file.stem, read_bill(str(file)), jurisdiction) for file in bill_files(paths)]


def read_bill(bill: str) -> str:
    """A file's text, or standard input's for -. Raises `InvalidInputError` for what is no UTF-8 text."""
    try:
        raw = sys.stdin.buffer.read() if bill == "-" else Path(bill).read_bytes()
    except OSError as error:
        raise InvalidInputError(
            f"cannot read {bill}: {error.strerror}; give a text file, or - for standard input"
        ) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        name = "standard input" if bill == "-" else bill
        raise InvalidInputError(f"{name} is not UTF-8 text (byte {error.start}); convert it to text first") from error


def _in_folder(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise InvalidInputError(f"there is no {' or '.join(sorted(_SUFFIXES))} file in {folder}")
    return found
