"""`docs/cli.md`: the help of every command, as it is printed on a plain terminal."""

from collections.abc import Iterator
from typing import Any

import typer.main

from llm_common.cli.app import app

__all__ = ["commands_page"]

_WIDTH = 100
_ABOUT = """# The command line

What `--help` says of each command, on a terminal without colours. Results go to standard output, everything else to
standard error. Exit codes: 0 done, 1 the work failed, 2 set something right first, 130 interrupted.

"""


def commands_page() -> str:
    helps = _helps(typer.main.get_command(app), ("llm-common",), None)
    return _ABOUT + "\n".join(f"## {path}\n\n```text\n{text}\n```\n" for path, text in helps)


def _helps(command: Any, path: tuple[str, ...], parent: Any) -> Iterator[tuple[str, str]]:
    command.rich_markup_mode = None  # without boxes
    context = command.context_class(
        command,
        info_name=path[-1],
        parent=parent,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        **command.context_settings,
    )
    yield " ".join(path), "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            yield from _helps(command.get_command(context, name), (*path, name), context)
