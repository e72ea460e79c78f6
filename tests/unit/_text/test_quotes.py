"""A quote is found however it is set, and only if every word is the text's."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llm_common._text.quotes import find_quote

TEXT = (
    "SEC. 2. The board\u2019s fee of $15 million shall be\n   paid by each “eligible” school dis-\ntrict "
    "within thirty (30) days. "
    "A tax of 5% on two hundred dollars applies."
)


def found(quote: str, text: str = TEXT) -> str | None:
    span = find_quote(quote, text)
    return None if span is None else text[slice(*span)]


@pytest.mark.parametrize(
    "quote",
    [
        "shall be paid by each",
        "SHALL  BE\tPAID by Each",
        "the board's fee of $15 million",
        'each "eligible" school district within',
        "within thirty (30) days",
        "within thirty 30 days",
        "a tax of 5 % on two hundred dollars",
    ],
)
def test_found_whatever_the_spelling(quote: str) -> None:
    """Spacing, case, typographic quotes, punctuation and hyphenation do not matter."""
    assert found(quote) is not None


@pytest.mark.parametrize(
    "quote",
    [
        "shall not be paid by each",
        "shall be paid by the",
        "5 million shall be paid",
        "$1 million shall be paid",
        "shall be paid each",
        "tax of 5 on two hundred euros",
        "paid by each eligible schools",
        "within thirty (30) da",
        "€15 million shall be",
        "shall be",
        "",
        "...",
        "x" * 5_000,
    ],
)
def test_not_found_with_other_words(quote: str) -> None:
    """A changed, missing or cut word or figure is not in the text; too short a quote supports nothing."""
    assert found(quote) is None


@pytest.mark.parametrize(
    ("quote", "whole"),
    [
        ("the board's fee of $15", "The board\u2019s fee of $15 million"),
        ("15 million shall be paid", "$15 million shall be\n   paid"),
        ("a tax of 5", "A tax of 5%"),
        ("hundred dollars applies", "two hundred dollars applies"),
    ],
)
def test_a_cut_figure_is_completed(quote: str, whole: str) -> None:
    """A quote that cuts a figure in two takes the rest of it in, so that "$15" of "$15 million" supports no $15."""
    assert found(quote) == whole


LAW = (
    "No person shall not less than 30 days before the hearing file an appeal. The fee is $1,500,000, and a notable "
    "donor may not be refunded. The council is now here to stay. Permits expire in 2028; renewals cost 2.5 percent."
)


@pytest.mark.parametrize(
    "quote",
    [
        "person shall less than 30 days before",  # negation dropped
        "a notable donor may be refunded",
        "person shall not more than 30 days",  # one word turned round
        "not less than 31 days before the hearing",  # a number changed
        "The fee is $1,500,00",
        "The fee is $1,500",
        "The fee is $1.500,000",
        "The fee is €1,500,000",
        "renewals cost 25 percent",
        "renewals cost 2,5 percent",
        "Permits expire in 2029; renewals",
        "No person ... file an appeal",  # joined over a gap
        "The fee is $1,500,000 … may not be refunded",
        "The fee is $1,500,000 [...] donor",
        "before the hearing an appeal file",  # order changed
        "a not able donor may not be refunded",  # words cut in two, or made one
        "a notabledonor may not be refunded",
        "The council is nowhere to stay",
        "The f\u0435e is $1,500,000, and",  # a Cyrillic letter
        "refunded. Permits expire in 2028",  # a sentence left out
    ],
)
def test_words_are_not_spacing(quote: str) -> None:
    """Dropped negations, changed numbers and joined passages are other words, however near they are."""
    assert find_quote(quote, LAW) is None


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("the nonprofit shall report", "The non-profit shall report."),
        ("the department shall report", "The depart\u00adment s h a l l report."),
        ("the department shall report", "The de\u200bpart-\n   ment shall report."),
        ("the department shall report", "The\u00a0department \u2028 shall\u3000report."),
    ],
)
def test_spacing_is_not_words(quote: str, text: str) -> None:
    """Words that are hyphenated, broken over lines or spaced out are the same words."""
    assert find_quote(quote, text) is not None


def test_a_region_of_the_text() -> None:
    """Only within the region a quote counts, and a figure that the region's end cuts is taken in whole."""
    text = "The fee is due. The fee is $15 million a year."
    assert find_quote("the fee is", text, 10) == (16, 26)
    assert find_quote("the fee is due", text, 10) is None
    start, end = find_quote("the fee is $15", text, 10, text.index(" million")) or (0, 0)
    assert text[start:end] == "The fee is $15 million"


WORD = st.text(alphabet="abcdefghijklmnopqrstuvwxyzäöü", min_size=2, max_size=9)
WORDS = st.lists(WORD, min_size=6, max_size=30)
GAP = st.sampled_from([" ", "\n", "  \t", ", ", "\u00a0", " “", "” "])


@given(words=WORDS, gaps=st.lists(GAP, min_size=30, max_size=30), data=st.data())
def test_every_passage_is_found_in_place(words: list[str], gaps: list[str], data: st.DataObject) -> None:
    """Any run of whole words, set in any way, is found, and the offsets give these words again."""
    text = "".join(word + gap for word, gap in zip(words, gaps, strict=False))
    start = data.draw(st.integers(0, len(words) - 4))
    end = data.draw(st.integers(start + 4, len(words)))
    passage = words[start:end]
    assume(sum(map(len, passage)) >= 12)
    hit = found("  ".join(passage).upper(), text)
    assert hit is not None
    assert re.findall(r"\w+", hit) == passage


@given(words=WORDS, at=st.integers(0, 5), other=WORD)
def test_one_other_word_is_enough(words: list[str], at: int, other: str) -> None:
    """A quote with a word that the text does not have anywhere is never found."""
    assume(other not in "".join(words))
    changed = [*words]
    changed[at] = other
    assert find_quote(" ".join(changed), " ".join(words)) is None
