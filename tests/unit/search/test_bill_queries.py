from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common._text.plain_text import check_plain_text
from llm_common.exceptions import InvalidInputError
from llm_common.search.bill_queries import MAX_QUERIES, MIN_QUERIES, bill_queries
from llm_common.search.markup import is_blank
from llm_common.search.query import fold, parse_query

BILL = """
An act to add Section 25402.8 to the Health and Safety Code, relating to building electrification.

SECTION 1. This act shall be known, and may be cited, as the Clean Homes Rebate Act of 2026.
SEC. 2. Findings on household energy costs
(a) "Qualified heat pump" means an electric appliance that the State Energy Resources Commission lists.
SEC. 3. Rebates for qualified heat pumps
(a) The Department of Housing and Community Development shall pay a rebate of $3,000 per household.
(b) The sum of $15 million is appropriated to the Department of Housing and Community Development.
(c) Section 1234 of the Revenue and Taxation Code and 42 U.S.C. 17061 apply.
"""


@pytest.fixture(scope="module")
def queries():
    return bill_queries("SB 277", BILL, "California")


@pytest.mark.parametrize(
    "named",
    [
        "SB 277 California",
        "Clean Homes Rebate",
        "Department of Housing and Community Development",
        "State Energy Resources Commission",
        "Revenue and Taxation Code",
        "42 U.S.C. 17061",
        "Qualified heat pump",
        "$3,000 per household",
        "$15 million",
        "Rebates for qualified heat pumps",
    ],
)
def test_queries_come_from_the_bill(queries, named):
    """Its number, title, agencies, codes, terms, amounts and headings are each searched for."""
    assert any(named in query for query in queries)


def test_the_same_bill_gives_the_same_queries(queries):
    """Otherwise the cache would never hit."""
    assert queries == bill_queries("SB 277", BILL, "California")


def test_another_bill_gives_other_queries(queries):
    """Nothing is the same for all bills."""
    other = bill_queries("HB 9", "An act relating to school lunches. The Board of Education shall report.", "Texas")
    assert not set(queries) & set(other)


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=400), st.none() | st.text(max_size=100))
def test_every_bill_gives_20_to_30_queries_that_can_be_sent(bill_id, text, jurisdiction):
    """Distinct in the cache's sense, at most 70 characters, and valid, whatever the text is."""
    try:
        found = bill_queries(bill_id, text, jurisdiction)
    except InvalidInputError:
        assert is_blank("".join(c for c in bill_id if c.isprintable())) or not _is_plain(text)
        return
    assert MIN_QUERIES <= len(found) <= MAX_QUERIES
    assert len({fold(query) for query in found}) == len(found)
    assert all(len(parse_query(query).text) <= 70 for query in found)


def _is_plain(text):
    with suppress(InvalidInputError):
        check_plain_text(text, "text")
        return True
    return False


@pytest.mark.parametrize(
    ("bill_id", "text"),
    [
        *[("", "text"), ("  ", "text"), ("\u200b", "text"), ("SB 1", ""), ("SB 1", " \n"), ("SB 1", "x" * 2_000_001)],
        *[("SB 1", "\u00a0\u200b \ufeff"), ("SB 1", "<!DOCTYPE html><p>An act</p>"), ("SB 1", "{\\rtf1 An act}")],
        ("SB 1", "%PDF-1.4 1 0 obj<<>>endobj"),
    ],
)
def test_an_unusable_bill_is_refused(bill_id, text):
    """Nothing is searched for nothing."""
    with pytest.raises(InvalidInputError):
        bill_queries(bill_id, text)
