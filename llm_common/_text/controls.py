"""Characters that command a terminal instead of being text, made visible. Pure."""

import re
from typing import Final

__all__ = ["escape_in_json", "visible"]

#: C0 and C1 controls (ESC, OSC, CSI, ...) but tab and line feed, direction marks and overrides of bidirectional text,
#: separators that some programs take for line ends, and halves of surrogate pairs, which no output can encode.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""The text with each control written as Python writes it: `\x1b`, `\u202e`. Tabs and line ends stay."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROLS.sub(_escape, text.replace("\r\n", "\n"))


def escape_in_json(document: str) -> str:
    r"""A JSON document, as `json.dumps(..., ensure_ascii=False)` writes it, with each control as `\u001b`."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number <= 0xFF else f"\\u{number:04x}"  # noqa: PLR2004 (two hexadecimal digits)
