"""A long text is cut at its own joints, and put together it is the text again."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common._text.chunking import Part, parts_from_ends, split
from llm_common._text.tokens import count
from llm_common.exceptions import InvalidInputError


def texts(text: str, limit: int, measure: Callable[[str], int] = len) -> list[str]:
    return [text[part.start : part.end] for part in split(text, limit, measure)]


PIECES = st.sampled_from(
    [
        "SEC. 2. ",
        "SECTION 1. ",
        "§ 12 ",
        "\n\n",
        "\n",
        ". ",
        " ",
        "shall pay $15 million",
        "ä",
        "\u200b",
        "x" * 30,
        "3. The ",
    ]
)


@given(text=st.lists(st.one_of(PIECES, st.text(max_size=20))).map("".join), limit=st.integers(4, 200))
def test_no_character_is_lost(text: str, limit: int) -> None:
    """The parts follow each other without gap or overlap, each fits, and together they are the text; in bytes too."""

    def size(piece: str) -> int:
        return len(piece.encode("utf-8", "surrogatepass"))

    parts = split(text, limit, size)
    assert "".join(text[part.start : part.end] for part in parts) == text
    assert all(size(text[part.start : part.end]) <= limit for part in parts)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert {part.of for part in parts} == {len(parts)}
    assert parts_from_ends(tuple(part.end for part in parts)) == parts


def test_in_tokens() -> None:
    """Counted with a tokenizer, each part fits as well."""

    def tokens(piece: str) -> int:
        return count([{"role": "user", "content": piece}]) - count([{"role": "user", "content": ""}])

    text = "".join(f"SEC. {n}. The board shall pay ${n} million to district {n}.\n\n" for n in range(300))
    pieces = texts(text, 500, tokens)
    assert "".join(pieces) == text
    assert max(map(tokens, pieces)) <= 500
    assert all(piece.startswith("SEC. ") for piece in pieces)
    # Full, but for the last one.
    assert min(map(tokens, pieces[:-1])) > 450


@pytest.mark.parametrize(
    ("heading", "other"),
    [
        ("SECTION 1. ", "SEC. 2. "),
        ("Sec. 4 ", "  Sec. 5 "),
        ("ARTICLE IV\n", "ARTICLE V\n"),
        ("§ 12 Fees. ", "§13 Fines. "),
        ("1. Scope. ", "2.1 Terms "),
        ("# Risks\n", "## Fees\n"),
    ],
)
def test_headings_are_the_best_places(heading: str, other: str) -> None:
    """A part begins with a heading, whichever way it is numbered."""
    first, second = f"{heading}The board shall act.\n\nIt reports.\n", f"{other}Nobody else acts. So be it.\n"
    assert texts(first + second, len(first) + 5) == [first, second]


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        ("One two.\n\nThree four.\n\nFive.", 25, ["One two.\n\nThree four.\n\n", "Five."]),
        ("One two\nthree four\n", 12, ["One two\n", "three four\n"]),
        ("One two. Three four! Five", 14, ["One two. ", "Three four! ", "Five"]),
        ("one two three four", 9, ["one two ", "three ", "four"]),
        ("abcdefgh", 3, ["ab", "cd", "ef", "gh"]),
    ],
)
def test_then_paragraphs_lines_sentences_words(text: str, limit: int, parts: list[str]) -> None:
    """What has no heading is cut at the next best place, and in the end anywhere."""
    assert texts(text, limit) == parts


def test_what_fits_is_one_part() -> None:
    """A text within the limit stays whole, also an empty one."""
    assert split("SEC. 1. Short.", 100, len) == (Part(1, 1, 0, 14),)
    assert split("", 100, len) == (Part(1, 1, 0, 0),)


def test_a_limit_below_a_character() -> None:
    """A limit that no character fits ends with an error, not in endless cutting."""
    with pytest.raises(InvalidInputError, match="character at 0"):
        split("ää", 1, lambda piece: len(piece.encode()))
