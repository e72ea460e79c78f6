import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_common.exceptions import (
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    LLMError,
    ModelNotFoundError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitError,
)
from llm_common.llm.retrying import Decision, RetryPolicy, decide


def judge(error, *, attempt=1, seconds_left=100.0, more_candidates=False, policy=RetryPolicy(), jitter=1.0):
    return decide(
        error,
        attempt=attempt,
        seconds_left=seconds_left,
        more_candidates=more_candidates,
        policy=policy,
        jitter=lambda: jitter,
    )


def test_waits_double_from_one_attempt_to_the_next():
    """1, then 2 seconds, and after three attempts no more."""
    error = ProviderError("down")
    assert [judge(error, attempt=n) for n in (1, 2, 3)] == [
        Decision("again", 1.0),
        Decision("again", 2.0),
        Decision("raise"),
    ]


def test_jitter_shortens_a_wait_by_half_at_most():
    """A crowd does not come back in step."""
    assert judge(ProviderError("down"), jitter=0.0) == Decision("again", 0.5)


@pytest.mark.parametrize(
    "error",
    [BadRequestError("400"), AuthenticationError("401"), BudgetExceededError("no"), QuotaExhaustedError("1113")],
    ids=lambda e: type(e).__name__,
)
def test_what_waiting_does_not_help_is_not_retried(error):
    """400, 401, an empty account and a budget are final for this model."""
    assert judge(error).action == "raise"


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (QuotaExhaustedError("1113"), "next"),
        (ModelNotFoundError("gone"), "next"),
        (AuthenticationError("401"), "raise"),
        (BudgetExceededError("no"), "raise"),
        (BadRequestError("400"), "raise"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_next_model_is_asked_only_for_what_it_may_do_better(error, action):
    """Never on budget, authentication or the caller's own errors."""
    assert judge(error, more_candidates=True).action == action


def test_retry_after_replaces_the_computed_wait():
    """The provider knows better when it will answer again."""
    assert judge(RateLimitError("slow down", retry_after=7.0), jitter=0.0) == Decision("again", 7.0)


def test_a_retry_after_beyond_the_cap_is_not_waited_for():
    """An hour is no wait but a refusal."""
    assert judge(RateLimitError("slow down", retry_after=3600.0), seconds_left=9999).action == "raise"


def test_a_wait_that_passes_the_deadline_is_not_begun():
    """The rest of the time goes to the next model."""
    error = RateLimitError("slow down", retry_after=30.0)
    assert judge(error, seconds_left=10, more_candidates=True) == Decision("next")


@given(
    attempt=st.integers(1, 10),
    seconds_left=st.floats(0, 1000),
    retry_after=st.none() | st.floats(0, 10_000),
    jitter=st.floats(0, 0.999),
    more=st.booleans(),
)
def test_a_wait_always_ends_before_the_deadline(attempt, seconds_left, retry_after, jitter, more):
    """Whatever the provider says, the policy keeps the deadline and the number of attempts."""
    error: LLMError = RateLimitError("slow down", retry_after=retry_after)
    decision = judge(error, attempt=attempt, seconds_left=seconds_left, more_candidates=more, jitter=jitter)
    if decision.action == "again":
        assert 0 <= decision.wait < seconds_left
        assert attempt < RetryPolicy().max_attempts
