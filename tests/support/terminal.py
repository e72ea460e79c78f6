"""A terminal that records what a command commands it to do."""

import os
import pty
import re
import subprocess
import threading
import unicodedata

from tests.support.command_line import command, environment

__all__ = ["commands_in", "in_terminal", "without_styles"]

#: What rich itself sends: colours, and the moves of a spinner or a bar.
_OWN = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*[AGK]|\r")
_BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def without_styles(text: str) -> str:
    """What stands on the screen in the end, about."""
    return _OWN.sub("", text)


def commands_in(text: str) -> list[str]:
    """Characters that are commands and no text, by Unicode's own table; rich's own are left out."""
    return [
        character
        for character in without_styles(text)
        if (unicodedata.category(character) in {"Cc", "Cs"} and character not in "\t\n")
        or unicodedata.bidirectional(character) in _BIDI
        or character in "\u061c\u200e\u200f"
    ]


def in_terminal(*arguments: object, columns: int = 80, **env: str) -> tuple[int, str]:
    """Exit code, and all that the command wrote to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    size = {"COLUMNS": str(columns), "LINES": "50", "TERM": "xterm-256color"}
    process = subprocess.Popen(
        command(*arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**env, **size)
    )
    os.close(theirs)
    clock = threading.Timer(100, process.kill)
    clock.start()
    written = bytearray()
    try:
        while piece := os.read(ours, 65536):
            written += piece
    except OSError:  # Linux says so when the other end is closed
        pass
    finally:
        os.close(ours)
        code = process.wait()
        clock.cancel()
    return code, written.decode().replace("\r\n", "\n")
