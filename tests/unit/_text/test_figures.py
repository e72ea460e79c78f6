"""Figures are read however they are written; those of a claim must be in its quotes."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common._text.figures import figures, unsupported_figures


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("$1.5 million", ["$1,500,000"]),
        ("1,500,000 dollars", ["$1,500,000"]),
        ("USD 40", ["$40"]),
        ("$3bn", ["$3,000,000,000"]),
        ("two hundred fifty thousand dollars", ["$250,000"]),
        ("5 percent, 5 per cent and 5%", ["5%", "5%", "5%"]),
        ("thirty (30) days", ["30", "30"]),
        ("on January 1, 2027", ["1", "2027"]),
        ("Section 12 of AB 1234, § 7, SB-9 and source S3", []),
        ("subdivision (a) of Section 17095", []),
        ("in one of the two cases", ["1", "2"]),
        ("-5 percent, \u22125%, \u20135 % and minus five percent", ["-5%", "-5%", "-5%", "-5%"]),
        ("$-5 and -$5 million", ["-$5", "-$5,000,000"]),
        ("in 2025-2027, 3\u20135 of $5\u2013$10", ["2025", "2027", "3", "5", "$5", "$10"]),
        ("2\u00bd percent or 2 1/2 percent, \u00bd%", ["2.5%", "2.5%", "0.5%"]),
        ("by 6/30/2027, 24/7", ["6", "30", "2027", "24", "7"]),
        (
            "\uff15\uff0c\uff10\uff10\uff10\u5186, \u096b\u0966 \u092a, \u0661\u0662\u066b\u0665\u066a",
            ["5000", "50", "12.5%"],
        ),
        ("1,00,000 rupees or two lakh", ["100000", "200000"]),
        ("1.000.000 and 1\u202f000\u202f000 and 1'000'000 euros", ["1000000"] * 3),
        ("500\u4e07\u5143", ["5000000"]),
        ("C$5 million, US$5 million", ["5000000", "$5,000,000"]),
        ("10\u00b2 units", ["10"]),
    ],
)
def test_reads(text: str, read: list[str]) -> None:
    """Numerals, words, scales and units are read; numbers that only name something are not."""
    assert [str(figure) for figure in figures(text)] == read


@pytest.mark.parametrize(
    ("claim", "quotes", "invented"),
    [
        ("costs $15 million", "the sum of fifteen million dollars", []),
        ("costs $15 million", "the sum of $15", ["$15,000,000"]),
        ("costs $500", "for 500 families", ["$500"]),
        ("for 500 families", "pays $500", []),
        ("rises by 5%", "rises by 5 dollars", ["5%"]),
        ("from 2026 to 2030", "beginning in 2026", ["2030"]),
        ("one of two programs", "the programs", []),
        ("fifty schools", "the schools", ["50"]),
        ("under Section 12", "the schools", []),
        ("over $15 million a year", "", ["$15,000,000"]),
        ("rises by 5 percent", "changes by -5 percent", ["5%"]),
        ("falls by -5%", "falls by 5%", ["-5%"]),
        ("takes 2 percent", "takes 1/2 percent", ["2%"]),
    ],
)
def test_unsupported(claim: str, quotes: str, invented: list[str]) -> None:
    """What the quotes do not state, with the same unit, is named."""
    assert [str(figure) for figure in unsupported_figures(claim, quotes)] == invented


@given(st.integers(0, 10**15))
def test_a_number_is_its_own_support(number: int) -> None:
    """With and without separators and a sign, a number supports itself and no neighbour."""
    written = f"${number:,}"
    assert [figure.value for figure in figures(written)] == [Decimal(number)]
    assert not unsupported_figures(f"{number} dollars", written)
    assert unsupported_figures(f"${number + 1}", written)
