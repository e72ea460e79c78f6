"""What becomes of a run whose worker stops before it is completed. Pure."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from llm_common.exceptions import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    InvalidAnswerError,
    LimitReachedError,
    LLMCommonError,
    LLMError,
    QuotaExhaustedError,
    RunCancelledError,
)

__all__ = ["Ending", "Ends", "Release", "Retry", "Stop", "StopRequested", "back_to_the_queue", "for_good", "told"]

_MAX_TOLD: Final = 2_000
#: Seconds until the second attempt; each further one waits twice as long, up to the last of these.
_SOON, _LATER, _AT_MOST = 15.0, 300.0, 3_600.0


class StopRequested(Exception):  # noqa: N818 (nothing went wrong)
    """The worker stops, and the run has just finished a step: the moment to give it back."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The run ends."""

    status: Literal["failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Release:
    """Back to the queue for `wait_seconds`, without having used an attempt."""

    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Retry:
    """Back to the queue for `wait_seconds`, unless this was the last attempt."""

    wait_seconds: float


Ending: TypeAlias = Stop | Release | Retry
#: Decides by what stopped the run and which attempt it was, from 1.
Ends: TypeAlias = Callable[[BaseException, int], Ending]


def for_good(error: BaseException, _attempt: int) -> Ending:
    """Of a run that somebody waits for: cancelled with its task or as asked, else failed."""
    return Stop("cancelled" if isinstance(error, (asyncio.CancelledError, RunCancelledError)) else "failed")


def back_to_the_queue(error: BaseException, attempt: int) -> Ending:
    """Of a run that waits for whatever worker: only what concerns the run itself ends it.

    A worker that stops, a budget that will reset and a limit of our own, which sent nothing, use no attempt. Limits,
    outages and refused keys of a provider use one each; the next waits as long as the provider says, or longer each
    time.
    """
    if isinstance(error, RunCancelledError):
        return Stop("cancelled")
    if isinstance(error, (asyncio.CancelledError, StopRequested)):
        return Release(0.0)
    if isinstance(error, BudgetExceededError):
        return _at_the_reset(error, datetime.now(UTC))
    if isinstance(error, LimitReachedError):
        return Release(_scattered(_SOON if error.retry_after is None else error.retry_after))
    if _may_pass(error):
        return Retry(_scattered(_wait(error, attempt)))
    return Stop("failed")


def told(error: BaseException) -> str:
    """For `error_message`. Our own messages have neither keys nor prompts in them; of others nobody knows."""
    if isinstance(error, LLMCommonError):
        return f"{type(error).__name__}: {error}"[:_MAX_TOLD]
    if isinstance(error, StopRequested):
        return "its worker stopped, and gave it back"
    return "its task was cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__


def _at_the_reset(error: BudgetExceededError, now: datetime) -> Ending:
    # A window that never ends, or a call that is dearer than the whole budget, is not waited for.
    if error.resets_at is None or error.requested_usd > error.limit_usd:
        return Stop("failed")
    return Release(max((error.resets_at - now).total_seconds(), 0.0))


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, (AuthenticationError, ConfigurationError, QuotaExhaustedError)):
        return True
    # An answer that cannot be read was paid for, and asked for again, already.
    return isinstance(error, LLMError) and error.retryable and not isinstance(error, InvalidAnswerError)


def _scattered(seconds: float) -> float:
    """So that those who were sent away together do not come back together."""
    return seconds * random.uniform(1.0, 1.25)  # noqa: S311


def _wait(error: BaseException, attempt: int) -> float:
    told = error.retry_after if isinstance(error, LLMError) else None
    first = told if told is not None else _SOON if isinstance(error, LLMError) and error.retryable else _LATER
    return min(first * 2.0 ** (attempt - 1), max(_AT_MOST, told or 0.0))
