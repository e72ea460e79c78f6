"""When a failed search is asked again, and whether it was charged. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from llm_common.exceptions import SearchError
from llm_common.search.providers.protocol import NOT_SENT

__all__ = ["RetryPolicy", "may_be_charged", "wait_before_retry"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `max_attempts` requests, waiting 1, 2, 4 ... seconds between them, with jitter."""

    max_attempts: int = 3
    base_wait: float = 1.0


def wait_before_retry(
    error: SearchError, *, attempt: int, seconds_left: float, policy: RetryPolicy, jitter: Callable[[], float]
) -> float | None:
    """Seconds to wait before the next attempt; None: give up and raise `error`.

    `attempt` counts from 1; `jitter()` is uniform in [0, 1). The provider's Retry-After replaces the computed
    wait. A wait that does not end before the deadline is not begun.
    """
    if not error.retryable or attempt >= policy.max_attempts:
        return None
    if error.retry_after is not None:
        # A crowd that was told the same moment must not come back in the same millisecond.
        wait = error.retry_after + 0.1 * jitter()
    else:
        wait = policy.base_wait * 2 ** (attempt - 1) * (0.5 + 0.5 * jitter())
    return wait if wait < seconds_left else None


def may_be_charged(error: SearchError) -> bool:
    """Whether the provider may bill the failed request: not where it refused, nor where it never saw it."""
    refused = error.status is not None and 300 <= error.status < 500  # noqa: PLR2004 (HTTP's classes)
    return not refused and error.code != NOT_SENT
