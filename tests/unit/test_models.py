"""Values that cross module borders refuse what cannot be meant."""

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.exceptions import InvalidInputError
from llm_common.models import Budget, CostMetrics, Outcome, Usage

_counts = st.integers(min_value=0, max_value=10**9)
_usages = st.builds(Usage, _counts, _counts, _counts, _counts, _counts, _counts)


@given(_usages, _usages)
def test_usage_adds_up_in_each_bucket(one: Usage, other: Usage):
    """The tokens of a sum are the sum of the tokens, in total and in the prompt."""
    total = one + other
    assert total.total_tokens == one.total_tokens + other.total_tokens
    assert total.prompt_tokens == one.prompt_tokens + other.prompt_tokens
    assert total.cache_write_1h_tokens == one.cache_write_1h_tokens + other.cache_write_1h_tokens
    assert total.reasoning_tokens == one.reasoning_tokens + other.reasoning_tokens


def test_usage_counts_no_token_twice():
    """Reasoning is part of the output and the hour's writes are part of the writes: neither is added again."""
    usage = Usage(10, 20, 30, 40, reasoning_tokens=35, cache_write_1h_tokens=25)
    assert usage.prompt_tokens == 60
    assert usage.total_tokens == 100


@pytest.mark.parametrize("limit", [Decimal(-1), Decimal("NaN"), Decimal("Infinity"), Decimal(10) ** 12])
def test_budget_refuses_an_absurd_limit(limit: Decimal):
    """A limit that is negative, no number or beyond any bill is refused by name."""
    with pytest.raises(InvalidInputError, match="limit_usd"):
        Budget(limit)


def test_project_budget_takes_no_value():
    """A value on a project's budget is a mistake that would silently bind nobody."""
    with pytest.raises(InvalidInputError, match="takes no value"):
        Budget(Decimal(1), value="acme")


@pytest.mark.parametrize("cost", [Decimal("-0.01"), Decimal("NaN"), Decimal("-Infinity"), Decimal(10) ** 11])
def test_cost_metrics_refuse_an_absurd_cost(cost: Decimal):
    """A cost that is negative, no number or beyond any bill is refused by name."""
    with pytest.raises(InvalidInputError, match="cost_usd"):
        CostMetrics("m", "s", cost)


def test_cost_metrics_refuse_what_cannot_be_filed():
    """No model, negative tokens and a time without a zone are refused, each by name."""
    with pytest.raises(InvalidInputError, match="model is empty"):
        CostMetrics("", "s", Decimal(1))
    with pytest.raises(InvalidInputError, match="tokens_used"):
        CostMetrics("m", "s", Decimal(1), -1)
    with pytest.raises(InvalidInputError, match="no time zone"):
        CostMetrics("m", "s", Decimal(1), timestamp=datetime(2026, 11, 30))  # noqa: DTZ001 (what is tested)


def test_cost_metrics_are_stamped_when_they_are_made():
    """The default timestamp is that of the making, not of the import."""
    before = datetime.now(UTC)
    made = CostMetrics("m", "s", Decimal(1)).timestamp
    assert before <= made <= datetime.now(UTC)


def test_an_answer_stays_out_of_the_repr():
    """An outcome may carry the answer's text to a checkpoint, never to a log."""
    outcome = Outcome(model="m", provider="p", cost_nano=1, price_source="map", status="ok", answer="SECRET TEXT")
    assert "SECRET TEXT" not in repr(outcome)


def test_values_cannot_be_changed():
    """Who holds a value can rely on it."""
    usage = Usage(1)
    with pytest.raises(FrozenInstanceError):
        usage.input_tokens = 2  # pyright: ignore[reportAttributeAccessIssue] (what is tested)
