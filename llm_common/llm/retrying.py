"""When to try again, with what, and after how long: the one owner of retries. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from llm_common.exceptions import LLMError

__all__ = ["Decision", "RetryPolicy", "decide"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `max_attempts` requests per candidate, waiting 1, 2, 4 ... seconds between them, with jitter.

    The provider's own Retry-After replaces the computed wait and is capped by `max_wait` and the deadline.
    """

    max_attempts: int = 3
    base_wait: float = 1.0
    max_wait: float = 60.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows a failed attempt. `wait` is in seconds, for `again` only."""

    action: Literal["again", "next", "raise"]
    wait: float = 0.0


def decide(
    error: LLMError,
    *,
    attempt: int,
    seconds_left: float,
    more_candidates: bool,
    policy: RetryPolicy,
    jitter: Callable[[], float],
) -> Decision:
    """Judge one failed attempt.

    `attempt` counts from 1 for this candidate; `jitter()` is uniform in [0, 1). A wait that does not end before
    the deadline is not begun: the next candidate gets the time instead, and where there is none, the error says
    what happened rather than that time ran out.
    """
    leave = Decision("next") if error.fallback and more_candidates else Decision("raise")
    if not error.retryable or attempt >= policy.max_attempts:
        return leave
    wait = _wait(error, attempt, policy, jitter)
    return Decision("again", wait) if wait < seconds_left else leave


def _wait(error: LLMError, attempt: int, policy: RetryPolicy, jitter: Callable[[], float]) -> float:
    if error.retry_after is not None:
        # A crowd that was told the same moment must not come back in the same millisecond.
        return error.retry_after + 0.1 * jitter() if error.retry_after <= policy.max_wait else float("inf")
    backoff = policy.base_wait * 2 ** (attempt - 1)
    return min(policy.max_wait, backoff * (0.5 + 0.5 * jitter()))
