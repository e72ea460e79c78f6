"""Whether something is text that people read, by its first bytes and its characters. Pure.

What is in a file is decided by its content, not by its name: a PDF, a web page or a Word file that is sent to a model
as it is costs money and says nothing.
"""

import re
from typing import Final

from llm_common.exceptions import InvalidInputError

__all__ = ["check_plain_text", "decode_plain_text"]

_EXTRACT: Final = "extract its text first, and save it as UTF-8"
_EXPORT: Final = "save it as plain text (UTF-8) first"
#: By the first bytes: what it is, and what to do.
_SIGNATURES: Final = (
    (b"{\\rtf", "an RTF file", _EXPORT),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file (.doc, .xls)", _EXPORT),
    (b"PK\x05\x06", "an empty ZIP archive", "give the text itself"),
    (b"\x1f\x8b", "compressed (gzip)", "unpack it first"),
    (b"BZh", "compressed (bzip2)", "unpack it first"),
    (b"\xfd7zXZ\x00", "compressed (xz)", "unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed (zstd)", "unpack it first"),
    (b"\x89PNG\r\n", "a picture (PNG)", "recognise its text (OCR) first"),
    (b"\xff\xd8\xff", "a picture (JPEG)", "recognise its text (OCR) first"),
    (b"GIF8", "a picture (GIF)", "recognise its text (OCR) first"),
    (b"II*\x00", "a picture (TIFF)", "recognise its text (OCR) first"),
    (b"MM\x00*", "a picture (TIFF)", "recognise its text (OCR) first"),
    (b"\xff\xfe\x00\x00", "UTF-32 text", "save it as UTF-8 first"),
    (b"\x00\x00\xfe\xff", "UTF-32 text", "save it as UTF-8 first"),
    (b"\xff\xfe", "UTF-16 text", "save it as UTF-8 first"),
    (b"\xfe\xff", "UTF-16 text", "save it as UTF-8 first"),
)
#: A ZIP archive by what its first entries are called.
_ARCHIVES: Final = (
    (b"word/", "a Word file (.docx)"),
    (b"xl/", "an Excel file (.xlsx)"),
    (b"ppt/", "a PowerPoint file (.pptx)"),
    (b"application/vnd.oasis.opendocument", "an OpenDocument file"),
    (b"application/epub+zip", "an EPUB book"),
)
_HEAD_BYTES: Final = 4_096
#: The PDF signature may have other bytes before it, up to this many.
_PDF_WITHIN: Final = 1_024
_MARKUP: Final = re.compile(
    r"(?:<!--.*?-->\s*)*<(?:!doctype\s+(?P<doctype>\w+)|(?P<xml>\?xml)\b|(?:html|head|body|title|meta|script|style|svg)\b)",
    re.IGNORECASE | re.DOTALL,
)
_XML_WITH_HTML: Final = re.compile(r"<(?:!doctype\s+)?html\b", re.IGNORECASE)
_LETTER_OR_DIGIT: Final = re.compile(r"[^\W_]")
#: More than this share of control and replacement characters is no text that anybody wrote.
_MAX_NOISE: Final = 0.02
_NOISE: Final = [chr(code) for code in range(32) if chr(code) not in "\t\n\r\f\v"] + ["\x7f", "\ufffd"]
_SAMPLE: Final = 400


def decode_plain_text(data: bytes, name: str) -> str:
    """UTF-8 text, with or without a mark of it. Raises `InvalidInputError` that says what `name` is instead."""
    if (kind := _kind_of_bytes(data)) is not None:
        raise _refusal(name, *kind)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{name} is not UTF-8 text (byte {error.start}); save it as UTF-8 first") from error
    check_plain_text(text, name)
    return text


def check_plain_text(text: str, name: str) -> None:
    """Raises `InvalidInputError` for a text of no words, markup instead of text, and binary data."""
    if not text.strip():
        raise InvalidInputError(f"{name} is empty; there is nothing to analyse")
    if (kind := _kind_of_text(text)) is not None:
        raise _refusal(name, *kind)
    noise = sum(text.count(character) for character in _NOISE)
    if "\x00" in text or noise > _MAX_NOISE * len(text):
        raise InvalidInputError(f"{name} looks like binary data (NUL or control characters); extract its text first")
    if not _LETTER_OR_DIGIT.search(text):
        raise InvalidInputError(f"{name} has only blanks and signs, no word; there is nothing to analyse")


def _refusal(name: str, kind: str, remedy: str) -> InvalidInputError:
    return InvalidInputError(f"{name} is {kind}, not plain text; {remedy}")


def _kind_of_bytes(data: bytes) -> tuple[str, str] | None:
    head = data[:_HEAD_BYTES]
    if b"%PDF-" in head[:_PDF_WITHIN] and (head.lstrip().startswith(b"%PDF-") or b"endobj" in data):
        return "a PDF file", _EXTRACT
    if head.startswith(b"PK\x03\x04"):
        names = head + data[-_HEAD_BYTES:]
        named = next((name for mark, name in _ARCHIVES if mark in names), "")
        return (named, _EXPORT) if named else ("a ZIP archive", "unpack it first")
    for signature, kind, remedy in _SIGNATURES:
        if head.startswith(signature):
            return kind, remedy
    return ("UTF-16 text", "save it as UTF-8 first") if _is_utf16(head[:_SAMPLE]) else None


def _is_utf16(head: bytes) -> bool:
    """Every other byte is 0, as in Latin text of two bytes a character without a mark at its front."""
    even, odd = head[0::2], head[1::2]
    zeros, others = sorted((even.count(0), odd.count(0)), reverse=True)
    return len(head) > 1 and zeros * 2 > len(even) and not others


def _kind_of_text(text: str) -> tuple[str, str] | None:
    head = text[:_HEAD_BYTES].lstrip("\ufeff\u200b \t\r\n\f\v")
    if head.startswith("{\\rtf"):
        return "an RTF file", _EXPORT
    if head.startswith("%PDF-") or ("%PDF-" in text[:_PDF_WITHIN] and "endobj" in text):
        return "a PDF file", _EXTRACT
    markup = _MARKUP.match(head)
    if markup is None:
        return None
    html = not markup["xml"] and (markup["doctype"] or "html").lower() == "html"
    if html or _XML_WITH_HTML.search(head):
        return "an HTML page", "save the text that it shows (UTF-8) first"
    return "an XML file", _EXTRACT
