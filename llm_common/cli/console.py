"""The two outputs: results on standard output, everything else on standard error. Plain when piped."""

from rich.console import Console

__all__ = ["notes", "results"]

#: Where there is no terminal there is no edge to wrap at, but a rule should not be endless.
_PIPED_COLUMNS = 160


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_PIPED_COLUMNS)


results = _console(stderr=False)
notes = _console(stderr=True)
