"""When a failed search is asked again, and whether it was charged. Pure."""

from collections.abc import Callable

from llm_common._runtime.retry import RetryPolicy, retry_wait
from llm_common.exceptions import SearchError
from llm_common.search.providers.protocol import NOT_SENT

__all__ = ["may_be_charged", "wait_before_retry"]


def wait_before_retry(
    error: SearchError, *, attempt: int, seconds_left: float, policy: RetryPolicy, jitter: Callable[[], float]
) -> float | None:
    """Seconds to wait before the next attempt; None: give up and raise `error`.

    A wait that does not end before the deadline is not begun.
    """
    if not error.retryable or attempt >= policy.max_attempts:
        return None
    wait = retry_wait(error.retry_after, attempt, policy, jitter)
    return wait if wait < seconds_left else None


def may_be_charged(error: SearchError) -> bool:
    """Whether the provider may bill the failed request: not where it refused, nor where it never saw it."""
    refused = error.status is not None and 300 <= error.status < 500  # noqa: PLR2004 (HTTP's classes)
    return not refused and error.code != NOT_SENT
