"""A file is judged by its first bytes, and what is no text is refused with a sentence that says what to do."""

import gzip
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common._text.plain_text import check_plain_text, decode_plain_text
from llm_common.exceptions import InvalidInputError

BILL = "SECTION 1. The board shall act.\n"


def archive(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        for name in names:
            made.writestr(name, "<xml/>")
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"%PDF-1.4 1 0 obj<<>>endobj", "is a PDF file, not plain text; extract its text first"),
        (b"\n%PDF-1.7\n%\xe2\xe3", "is a PDF file"),
        (b"junk before it\n%PDF-1.7\n1 0 obj\nendobj", "is a PDF file"),
        (b"<!DOCTYPE html><p>x</p>", "is an HTML page, not plain text; save the text that it shows"),
        (b"\xef\xbb\xbf \n<HTML lang=en>", "is an HTML page"),
        (b"<!-- saved -->\n<!doctype html>", "is an HTML page"),
        (b"<?xml version='1.0'?><!DOCTYPE html PUBLIC ''><html>", "is an HTML page"),
        (b"<?xml version='1.0'?><bill><p>x</p></bill>", "is an XML file"),
        (b"<!DOCTYPE bill><bill/>", "is an XML file"),
        (rb"{\rtf1\ansi The board shall act.}", "is an RTF file"),
        (archive("[Content_Types].xml", "word/document.xml"), "is a Word file"),
        (archive("xl/workbook.xml"), "is an Excel file"),
        (archive("bill.txt"), "is a ZIP archive, not plain text; unpack it first"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "is an old Office file"),
        (gzip.compress(BILL.encode(), mtime=0), "is compressed"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "is a picture"),
        (BILL.encode("utf-16"), "is UTF-16 text, not plain text; save it as UTF-8 first"),
        (BILL.encode("utf-16-le"), "is UTF-16 text"),
        (BILL.encode("utf-16-be"), "is UTF-16 text"),
        (BILL.encode("utf-32"), "is UTF-32 text"),
        ("Grüße".encode("latin-1"), r"is not UTF-8 text \(byte 2\)"),
        (b"The board\x00shall act", "looks like binary data"),
        (b"", "is empty"),
        (b" \n\t", "is empty"),
        ("\u00a0\u200b\ufeff\u2060 \n".encode(), "has only blanks and signs"),
        (b"--- *** ___", "has only blanks and signs"),
    ],
)
def test_no_text_is_refused_by_name(data: bytes, says: str) -> None:
    """The sentence names the file, what it is, and what to do with it."""
    with pytest.raises(InvalidInputError, match=rf"^bill\.txt {says}"):
        decode_plain_text(data, "bill.txt")


@pytest.mark.parametrize(
    "text",
    [
        BILL,
        "The fee is <strike>$5</strike> $6, as <u>amended</u>.",
        "# Title\n\n<div align=center>The board</div>",
        "<section 1> The board shall act",
        "A file of the type %PDF-1.7 may be handed in, says this rule.",
        "x < 5 and y > 3",
        "法律",
        "١٢٣",
        "{ \\rtf } is how such files begin",
    ],
)
def test_text_with_signs_is_text(text: str) -> None:
    """Marks of amendment, Markdown and mentions of file types are what bills have."""
    assert decode_plain_text(text.encode(), "bill.txt") == text
    assert decode_plain_text(text.encode("utf-8-sig"), "bill.txt") == text


@given(st.binary(max_size=300))
def test_any_bytes_are_text_or_a_sentence(data: bytes) -> None:
    """Whatever a file holds: its text, or an `InvalidInputError` that begins with its name."""
    refused: InvalidInputError | None = None
    text = ""
    try:
        text = decode_plain_text(data, "a.txt")
        check_plain_text(text, "a.txt")
    except InvalidInputError as error:
        refused = error
    assert str(refused).startswith("a.txt ") if refused else any(map(str.isalnum, text))
