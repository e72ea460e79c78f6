"""Rows for people: a table where it fits the terminal, else one record after the other. Nothing is ever cut off."""

import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from rich.cells import cell_len
from rich.table import Table

from llm_common._text.controls import visible
from llm_common.cli.console import escape, results

__all__ = ["Column", "bar", "show_table", "write_csv"]

_GAP: Final = 2
#: A text that may go over several lines needs so much room for it.
_NARROWEST: Final = 16
#: What begins a formula for a spreadsheet, full-width forms included.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@dataclass(frozen=True, slots=True)
class Column:
    """`number`: stands to the right. `fold`: a text that may go over several lines. `optional`: left out first."""

    name: str
    number: bool = False
    fold: bool = False
    optional: bool = False


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Rows of plain text, one cell for each column. Where nobody reads it as it comes, lines have any length."""
    table = [[visible(cell) for cell in row] for row in rows]
    if not results.is_terminal:
        width = _width(columns, table)
        results.print(_table(columns, table), width=max(width, 1), crop=False, no_wrap=True)
    elif _fits(columns, table):
        results.print(_table(columns, table))
    elif any(column.optional for column in columns):
        kept = [place for place, column in enumerate(columns) if not column.optional]
        show_table([columns[place] for place in kept], [[row[place] for place in kept] for row in table])
    else:
        _show_records(columns, table)


def bar(share: float, columns: int) -> str:
    """A share from 0 to 1 as a bar of at most so many columns."""
    sign = "█" if results.encoding.startswith("utf") else "#"
    return sign * round(share * columns)


def write_csv(header: Sequence[str], rows: Iterable[Sequence[object]], *, raw: bool = False) -> None:
    """CSV on standard output. Unless `raw`, a text that a spreadsheet would run as a formula has ' before it."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for row in (header, *rows):
        writer.writerow([_cell(value, raw=raw) for value in row])


def _cell(value: object, *, raw: bool) -> object:
    if isinstance(value, Decimal):
        return format(value, "f")
    if not isinstance(value, str):
        return value
    return visible(value) if raw or not value.lstrip(" ").startswith(_FORMULA) else f"'{visible(value)}"


def _width(columns: Sequence[Column], rows: Sequence[Sequence[str]], narrowest: int | None = None) -> int:
    """Of the table in cells; with `narrowest` as it is with texts folded to that."""
    total = -_GAP
    for place, column in enumerate(columns):
        widest = max([cell_len(column.name), *(cell_len(row[place]) for row in rows)])
        total += (min(widest, narrowest) if narrowest and column.fold else widest) + _GAP
    return total


def _fits(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> bool:
    return _width(columns, rows, _NARROWEST) <= results.width


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
    for column in columns:
        table.add_column(
            escape(column.name), justify="right" if column.number else "left", no_wrap=not column.fold, overflow="fold"
        )
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _show_records(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    for number, row in enumerate(rows):
        record = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=False)
        record.add_column(no_wrap=True, style="dim")
        record.add_column(overflow="fold")
        for column, cell in zip(columns, row, strict=True):
            record.add_row(escape(column.name), escape(cell))
        if number:
            results.print()
        results.print(record)
