"""The arithmetic of limits: no minute sees more than it may, and little less."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.exceptions import InvalidInputError
from llm_common.llm.limits.rules import LimitRefusal, LimitRequest, Limits, demands_of, limit_refusal, take_of, wait_for

MINUTE = 60_000_000


def moments(per_minute: int, amounts: list[int], pauses: list[int]) -> list[int]:
    """When each goes that asks as soon as it may, or after a pause."""
    full_at, now, gone = 0, 0, []
    for amount, pause in zip(amounts, pauses, strict=True):
        take = take_of(per_minute, amount)
        now += pause
        now += wait_for(take, full_at, now)
        full_at = max(full_at, now) + take.us
        gone.append(now)
    return gone


PAUSES = st.one_of(st.just(0), st.integers(0, 1000), st.integers(0, 2 * MINUTE))


@given(st.integers(1, 3000), st.lists(PAUSES, min_size=1, max_size=300))
def test_no_minute_sees_more_requests_than_allowed(per_minute: int, pauses: list[int]):
    """Whatever the pauses: in each 60 seconds that begin with a request, there are at most so many."""
    gone = moments(per_minute, [1] * len(pauses), pauses)
    last = 0
    for first, begins in enumerate(gone):
        while last < len(gone) and gone[last] < begins + MINUTE:
            last += 1
        assert last - first <= per_minute


@given(st.integers(10, 2000), st.lists(st.tuples(st.integers(0, 3000), PAUSES), min_size=1, max_size=200))
def test_no_minute_sees_more_tokens_than_allowed(per_minute: int, requests: list[tuple[int, int]]):
    """Save for one request that is larger than a burst by itself, which goes when nothing went before."""
    amounts, pauses = zip(*requests, strict=True)
    gone = moments(per_minute, list(amounts), list(pauses))
    for first, begins in enumerate(gone):
        later = zip(amounts[first:], gone[first:], strict=True)
        inside = [amount for amount, moment in later if moment < begins + MINUTE]
        assert sum(inside) <= per_minute + max(inside)


@given(st.integers(1, 100_000))
def test_little_of_the_limit_is_lost(per_minute: int):
    """Who asks all the time gets nine tenths, and a tenth of it at once (a microsecond each, for the rounding)."""
    take, burst = take_of(per_minute, 1), per_minute // 10
    assert MINUTE / take.us >= 0.89 * per_minute - 1
    assert (take.spare_us + burst) // take.us + 1 >= 0.98 * burst


@given(st.integers(1, 10**9), st.integers(0, 10**9))
def test_every_request_goes_at_last(per_minute: int, amount: int):
    """Also one that is larger than the whole limit: it waits until the bucket is full."""
    take = take_of(per_minute, amount)
    assert take.us >= 0
    assert wait_for(take, full_at=5, now=5) == 0
    assert wait_for(take, full_at=0, now=5) == 0


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_was_guessed_is_corrected_to_the_truth(per_minute: int, guessed: int, used: int):
    """Guess and correction move the bucket as far as the truth would have."""
    [demand] = demands_of(LimitRequest({"k": Limits(tokens_per_minute=per_minute)}, guessed))
    assert demand.tokens is not None
    assert demand.tokens.us + demand.correction(used) == take_of(per_minute, used).us


def test_a_claim_is_in_the_order_of_its_keys():
    """So that nobody waits for another who waits for it."""
    claim = LimitRequest({"zai": Limits(concurrency=1), "a": Limits(requests_per_minute=2)})
    assert [demand.key for demand in demands_of(claim)] == ["a", "zai"]


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8"])
def test_limits_that_are_none_are_refused(value):
    """The error names the field and the value."""
    with pytest.raises(InvalidInputError, match="requests_per_minute"):
        Limits(requests_per_minute=value)


def test_the_error_says_which_limit_and_when():
    """Of several, the one that takes longest."""
    claim = LimitRequest({"zai": Limits(concurrency=2, requests_per_minute=30)})
    refusals = [LimitRefusal("zai", "concurrency", None), LimitRefusal("zai", "requests_per_minute", 12_500_000)]
    error = limit_refusal(claim, refusals, 3.0)
    assert (error.limit, error.retry_after, error.fallback, error.retryable) == (
        "zai/requests_per_minute",
        12.5,
        True,
        False,
    )
    assert "requests_per_minute=30 of zai" in str(error)
    assert "12.5 seconds" in str(error)
    assert limit_refusal(claim, refusals[:1], 3.0).retry_after is None
