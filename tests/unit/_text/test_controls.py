import json
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from llm_common._text.controls import escape_in_json, visible

BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
TEXTS = st.text(st.characters(exclude_categories=[]))


def commands(text: str) -> list[str]:
    """Characters that are no text, by Unicode's own table."""
    return [
        character
        for character in text
        if (unicodedata.category(character) in {"Cc", "Cs"} and character not in "\t\n")
        or unicodedata.bidirectional(character) in BIDI
        or character in "\u061c\u200e\u200f"
    ]


@given(TEXTS)
def test_no_control_is_left(text):
    """Whatever the text, a terminal takes no command from it, and it can be written."""
    assert commands(visible(text)) == []
    visible(text).encode()


@given(TEXTS)
def test_json_stays_the_same_document(text):
    """The controls are written as escapes, so a program reads what was there."""
    document = json.dumps({"title": text}, ensure_ascii=False, indent=2)
    assert commands(escape_in_json(document)) == []
    assert json.loads(escape_in_json(document)) == {"title": text}


def test_signs():
    """A person sees what was there."""
    assert visible("a\x1b[2Jb\u202ec\x9bd\r\ne\tf") == "a\\x1b[2Jb\\u202ec\\x9bd\ne\tf"


def test_the_control():
    """The check itself sees them."""
    assert commands("\x1b\x07\x9d\u202e\ud800") == ["\x1b", "\x07", "\x9d", "\u202e", "\ud800"]
