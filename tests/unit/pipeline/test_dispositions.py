"""What becomes of a run that was stopped: whether it ends, waits, and for how long."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from llm_common.exceptions import (
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    ConnectionFailedError,
    ContentPolicyError,
    DatabaseError,
    DeadlineExceededError,
    EmptyAnswerError,
    LimitReachedError,
    ModelNotFoundError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitError,
    RunCancelledError,
    StructuredOutputError,
)
from llm_common.pipeline.dispositions import Release, Retry, Stop, StopRequested, back_to_the_queue, for_good, told


def budget(**changes: Any) -> BudgetExceededError:
    whole = {"limit_usd": Decimal(10), "requested_usd": Decimal(1), "resets_at": datetime.now(UTC) + timedelta(hours=2)}
    return BudgetExceededError("no", **{**whole, **changes})


@pytest.mark.parametrize(
    "error",
    [RateLimitError("x"), QuotaExhaustedError("x"), ProviderError("x"), ConnectionFailedError("x"),
     DeadlineExceededError("x"), AuthenticationError("x"), ConfigurationError("x")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_concerns_the_provider_is_tried_again(error: Exception) -> None:
    """Each time after a longer wait, at most about an hour, and never all runs at the same moment."""
    waits = [back_to_the_queue(error, attempt) for attempt in (1, 2, 3, 30)]
    assert all(isinstance(ending, Retry) for ending in waits)
    seconds = [ending.wait_seconds for ending in waits if isinstance(ending, Retry)]
    assert seconds == sorted(seconds)
    assert seconds[0] >= 15
    assert 3600 <= seconds[-1] <= 4500
    assert len({back_to_the_queue(error, 1) for _ in range(5)}) > 1


def test_the_provider_knows_best() -> None:
    """Its Retry-After is the first wait, also where it is longer than ours would ever be."""
    for told_seconds in (0.5, 40.0, 90_000.0):
        ending = back_to_the_queue(RateLimitError("x", retry_after=told_seconds), 1)
        assert isinstance(ending, Retry)
        assert told_seconds <= ending.wait_seconds <= told_seconds * 1.25


@pytest.mark.parametrize(
    "error",
    [BadRequestError("x"), ContentPolicyError("x"), ModelNotFoundError("x"), StructuredOutputError("x"),
     EmptyAnswerError("x"), DatabaseError("x"), ValueError("x")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_what_concerns_the_run_fails_it(error: Exception) -> None:
    """It would be the same the next time, and some of it is paid for each time."""
    assert back_to_the_queue(error, 1) == Stop("failed")


def test_a_budget_is_waited_for() -> None:
    """Until its reset, without using an attempt; one that can never hold the call is not."""
    ending = back_to_the_queue(budget(), 1)
    assert isinstance(ending, Release)
    assert 7190 < ending.wait_seconds <= 7200
    assert back_to_the_queue(budget(resets_at=datetime.now(UTC) - timedelta(hours=1)), 1) == Release(0.0)
    assert back_to_the_queue(budget(resets_at=None), 1) == Stop("failed")
    assert back_to_the_queue(budget(requested_usd=Decimal(11)), 1) == Stop("failed")


def test_a_limit_of_our_own_costs_no_attempt() -> None:
    """Nothing was sent: it is waited for as long as it says, or for the first wait where it cannot say."""
    for told_seconds, least in ((0.5, 0.5), (40.0, 40.0), (None, 15.0)):
        for attempt in (1, 30):
            ending = back_to_the_queue(
                LimitReachedError("x", limit="zai/concurrency", retry_after=told_seconds), attempt
            )
            assert isinstance(ending, Release)
            assert least <= ending.wait_seconds <= least * 1.25


def test_a_worker_that_stops_costs_no_attempt() -> None:
    """Whether it was asked to or its task was cancelled; a wish to cancel the run itself ends it."""
    assert back_to_the_queue(StopRequested(), 1) == Release(0.0)
    assert back_to_the_queue(asyncio.CancelledError(), 1) == Release(0.0)
    assert back_to_the_queue(RunCancelledError("x"), 1) == Stop("cancelled")


def test_a_run_that_somebody_waits_for_ends() -> None:
    """Whoever called `run` is told; nothing goes on behind his back."""
    assert for_good(asyncio.CancelledError(), 1) == Stop("cancelled")
    assert for_good(RunCancelledError("x"), 1) == Stop("cancelled")
    assert for_good(RateLimitError("x"), 1) == for_good(ValueError("x"), 1) == Stop("failed")


def test_what_is_told_has_no_secrets() -> None:
    """Our messages are told, at most 2,000 characters of them; of others only what kind they are."""
    assert told(RateLimitError("slow down")) == "RateLimitError: slow down"
    assert told(ValueError("sk-secret")) == "ValueError"
    assert len(told(ProviderError("x" * 5000))) == 2000
