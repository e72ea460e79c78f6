"""When to try again, with what, and after how long: the one owner of retries. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from llm_common._runtime.retry import RetryPolicy, retry_wait
from llm_common.exceptions import LLMError

__all__ = ["Decision", "RetryPolicy", "decide"]


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
    wait = retry_wait(error.retry_after, attempt, policy, jitter)
    return Decision("again", wait) if wait < seconds_left else leave
