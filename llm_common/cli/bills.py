"""Bills as files: one, several, or all of a folder."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from llm_common._text.plain_text import decode_plain_text
from llm_common.exceptions import InvalidInputError
from llm_common.pipeline.batch import Item

__all__ = ["STANDARD_INPUT", "BillFiles", "read_bill"]

STANDARD_INPUT = "-"
_SUFFIXES = frozenset({".txt", ".md"})


def read_bill(bill: str) -> str:
    """The text of a file, or of standard input for "-". Raises `InvalidInputError` for what is no text."""
    try:
        raw = sys.stdin.buffer.read() if bill == STANDARD_INPUT else Path(bill).read_bytes()
    except OSError as error:
        raise InvalidInputError(
            f"cannot read {bill}: {error.strerror}; give a text file, or - for standard input"
        ) from error
    return decode_plain_text(raw, "standard input" if bill == STANDARD_INPUT else bill)


class BillFiles:
    """The files below `paths`, in order; of a folder its *.txt and *.md. A bill is called as its file, without suffix.

    Raises `InvalidInputError` where there is none, or where two would have the same name.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._files: dict[str, Path] = {}
        #: By bill, why `items` left it out; it reads one after the other.
        self.unreadable: dict[str, InvalidInputError] = {}
        for file in (file for path in paths for file in _files(Path(path))):
            other = self._files.setdefault(file.stem, file)
            if other != file:
                raise InvalidInputError(f"{other} and {file} would both be the bill {file.stem!r}; rename one of them")
        if not self._files:
            raise InvalidInputError(f"{', '.join(paths)}: no *.txt or *.md in it; give the folder that has the bills")

    def __len__(self) -> int:
        return len(self._files)

    def items(self, jurisdiction: str) -> Iterator[Item]:
        """What can be read."""
        for name, file in self._files.items():
            try:
                text = read_bill(str(file))
            except InvalidInputError as error:
                self.unreadable[name] = error
            else:
                yield Item(name, text, jurisdiction)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())
