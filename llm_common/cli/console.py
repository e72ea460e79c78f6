"""The two outputs: results on standard output, everything else on standard error. Plain when piped.

The only door to the terminal: what a model, a web page or a provider wrote is text here, and never a command to it.
"""

import io
import json
import logging
import sys
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any, Literal

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.text import Text

from llm_common._text.controls import escape_in_json, visible
from llm_common._text.redaction import redact
from llm_common.settings import secrets_of

__all__ = ["Console", "LogHandler", "escape", "mark", "notes", "results", "route_logs", "write_json", "write_text"]

#: Where there is no terminal there is no edge to wrap at, but a rule should not be endless.
_PIPED_COLUMNS = 160
_MARKS = {"done": ("[green]✓[/]", "[green]+[/]"), "failed": ("[red]✗[/]", "[red]x[/]")}


class Console(RichConsole):
    """Rich's, on which every control of a text is visible, and no text is taken for an emoji or a number."""

    def render_str(self, text: str, **options: Any) -> Text:
        # Before the layout, so that a table knows how wide the signs are.
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        # Whatever way a text came, it becomes segments here; rich's own commands to the terminal are marked as such.
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPED_COLUMNS
    return console


results = _console(stderr=False)
notes = _console(stderr=True)


def mark(outcome: Literal["done", "failed"]) -> str:
    """The sign of it, in markup; a letter where the terminal has no signs."""
    sign, letter = _MARKS[outcome]
    return sign if notes.encoding.startswith("utf") else letter


def write_json(document: object, *, indent: int | None = 2) -> None:
    """One JSON document on standard output, ended by a line end. `indent` None puts it on one line."""
    text = (
        document
        if isinstance(document, str)
        else json.dumps(document, ensure_ascii=False, indent=indent, default=_plain)
    )
    write_text(escape_in_json(text) + "\n")


def _plain(value: object) -> str:
    """Money as a decimal string, times as ISO 8601."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no part of a report")


def write_text(text: str) -> None:
    """Text on standard output as it is, but for its controls: it is not wrapped, and nothing in it is markup."""
    sys.stdout.write(visible(text))
    sys.stdout.flush()


def route_logs() -> None:
    """Lead warnings of this process to standard error like everything else: one line each, without secrets."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter still gets its number
    logging.getLogger().addHandler(LogHandler())
    logging.captureWarnings(capture=True)


class LogHandler(logging.Handler):
    """Warnings on standard error, without secrets."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, on one line but for a traceback."""
        notes.print(escape(redact(self.format(record), secrets=secrets_of())), soft_wrap=True)
