"""Dollars for people, nano-dollars for arithmetic."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.exceptions import InvalidInputError
from llm_common.money import format_usd, to_nano, to_usd

_LARGEST = 10**18 - 1


@given(st.integers(0, _LARGEST))
def test_nano_dollars_survive_the_way_there_and_back(nano: int) -> None:
    """No amount that a column can hold loses a digit."""
    assert to_nano(to_usd(nano)) == nano


@given(st.decimals(0, 1_000_000, places=15))
def test_dollars_are_rounded_up_by_less_than_one(usd: Decimal) -> None:
    """A fraction of a nano-dollar is never free, and never costs more than one."""
    assert 0 <= to_usd(to_nano(usd)) - usd < Decimal("1e-9")


@pytest.mark.parametrize(
    ("amount", "nano"),
    [
        (0, 0),
        (0.1, 100_000_000),
        (0.1 + 0.2, 300_000_001),  # 0.30000000000000004 as it prints, rounded up
        ("12.34", 12_340_000_000),
        (Decimal("1e-9"), 1),
        (Decimal("1e-12"), 1),
        (5e-324, 1),
        (999_999_999, 999_999_999_000_000_000),
    ],
)
def test_a_number_is_read_as_it_prints(amount: Decimal | float | str, nano: int) -> None:
    """A tenth is a tenth, also as a float."""
    assert to_nano(amount) == nano


@pytest.mark.parametrize("amount", [-1, "-0.01", "ten", "", float("nan"), float("inf"), Decimal("sNaN"), 1e9, "1e400"])
def test_what_is_no_amount_is_refused_by_name(amount: Decimal | float | str) -> None:
    """The error says which setting it was."""
    with pytest.raises(InvalidInputError, match="daily budget"):
        to_nano(amount, name="daily budget")


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        ("0", "$0.00"),
        ("12.345", "$12.34"),
        ("1", "$1.00"),
        ("0.00041", "$0.000410"),
        ("1e-9", "$0.000000001"),
        ("1234567.5", "$1234567.50"),
    ],
)
def test_people_see_as_many_digits_as_they_need(usd: str, text: str) -> None:
    """Cents for large amounts, millionths for small ones."""
    assert format_usd(Decimal(usd)) == text


def test_a_host_that_computes_with_few_digits_gets_them_all() -> None:
    """The decimal context of the host's thread does not round money."""
    with localcontext(prec=3):
        assert to_usd(123_456_789_012) == Decimal("123.456789012")
        assert to_nano("123.456789012") == 123_456_789_012
