"""How often to try again, and after how long: for model calls and searches alike. Pure.

Not tenacity: the wait hangs on what the provider says and on the time that is left, and each attempt is paid for.
"""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["RetryPolicy", "retry_wait"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `max_attempts` requests per model or search, waiting 1, 2, 4 ... seconds between them, with jitter.

    The provider's own Retry-After replaces the computed wait and is capped by `max_wait` and the deadline.
    """

    max_attempts: int = 3
    base_wait: float = 1.0
    max_wait: float = 60.0


def retry_wait(retry_after: float | None, attempt: int, policy: RetryPolicy, jitter: Callable[[], float]) -> float:
    """Seconds to wait after an attempt; infinite where the provider asks for more than `max_wait`.

    `attempt` counts from 1; `jitter()` is uniform in [0, 1).
    """
    if retry_after is not None:
        # A crowd that was told the same moment must not come back in the same millisecond.
        return retry_after + 0.1 * jitter() if retry_after <= policy.max_wait else float("inf")
    return min(policy.max_wait, policy.base_wait * 2 ** (attempt - 1) * (0.5 + 0.5 * jitter()))
