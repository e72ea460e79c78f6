"""When the new path is taken back. Pure decisions, good for a look after every call."""

import math
from dataclasses import dataclass
from typing import Final

from llm_common.db.functions.rollout import ArmStats
from llm_common.exceptions import InvalidInputError
from llm_common.money import format_usd, to_usd
from llm_common.rollout.sequential import (
    log_evidence_above,
    log_evidence_greater_mean,
    log_evidence_more_often,
)

__all__ = ["Guardrail", "rollback_reason"]

#: How the false alarms that are allowed are shared out: most goes where few calls must suffice.
_SHARES: Final = {"other arm": 0.6, "limit": 0.1, "latency": 0.1, "cost": 0.2}
#: What a P95 leaves above it.
_TAIL: Final = 0.05
_MOST_KEPT: Final = 2_000


@dataclass(frozen=True, slots=True)
class Guardrail:
    """When the new path is rolled back.

    The evidence must be such that of all rollouts whose two paths are alike at most the share `false_alarms` is ever
    rolled back, although the figures are looked at after every call.

    Errors: the rate is above `max_error_rate`, beyond doubt; or it is above it in the figures, and errors are more
    frequent than on the old path beyond doubt. Judged from `min_calls` calls on. A plain "rate > 5 %" would roll back
    two thirds of the healthy paths that fail 3 % of the time.

    Latency: more than 5 % of the new path's calls take longer than `latency_ratio` times the old path's P95; that
    is, its P95 is higher by more than that. Cost: its mean is more than `cost_ratio` times the old path's. Both
    are judged once each arm has `min_compared` calls with a known figure.

    The window is each arm's latest `window_calls` calls (at most 2000) within `window_seconds`. Within the first window
    after a start or a reset the share of false alarms is exact; afterwards it is that of each window's length.
    """

    max_error_rate: float = 0.05
    min_calls: int = 20
    latency_ratio: float = 1.5
    cost_ratio: float = 1.5
    min_compared: int = 50
    false_alarms: float = 0.01
    window_calls: int = _MOST_KEPT
    window_seconds: float = 86_400.0

    def __post_init__(self) -> None:
        if not 0 <= self.max_error_rate < 1:
            raise InvalidInputError(
                f"max_error_rate must be 0 or more and below 1 (5 %: 0.05), not {self.max_error_rate}"
            )
        if self.latency_ratio < 1 or self.cost_ratio < 1:
            raise InvalidInputError(
                f"latency_ratio {self.latency_ratio} and cost_ratio {self.cost_ratio} must be 1 or more"
            )
        if not 1 <= max(self.min_calls, self.min_compared) <= self.window_calls <= _MOST_KEPT:
            raise InvalidInputError(
                f"window_calls must be at most {_MOST_KEPT} and hold min_calls, min_compared, not {self.window_calls}"
            )
        if not 0 < self.false_alarms < 1 or self.window_seconds <= 0:
            raise InvalidInputError(
                f"false_alarms {self.false_alarms} must be between 0 and 1, and window_seconds {self.window_seconds} "
                "positive"
            )

    def enough(self, kind: str) -> float:
        """The logarithm of the evidence at which a guardrail of this kind trips."""
        return -math.log(self.false_alarms * _SHARES[kind])


def rollback_reason(new: ArmStats, old: ArmStats, rule: Guardrail, percentage: int = 0) -> str | None:
    """Why the new path is to be taken back, in words; None where it may go on.

    `percentage` is the share of the new path now: where it was lower before, the new path is not blamed for an outage
    of today that meets both.
    """
    return _too_many_errors(new, old, rule, percentage) or _too_slow(new, old, rule) or _too_dear(new, old, rule)


def _too_many_errors(new: ArmStats, old: ArmStats, rule: Guardrail, percentage: int) -> str | None:
    if new.calls < rule.min_calls or new.errors <= rule.max_error_rate * new.calls:
        return None
    failed = f"{new.errors} of the last {new.calls} calls failed; {rule.max_error_rate:.1%} is allowed"
    if log_evidence_above(new.errors, new.calls, rule.max_error_rate) >= rule.enough("limit"):
        return failed
    share = max(new.calls / (new.calls + old.calls), percentage / 100)
    if log_evidence_more_often(new.errors, old.errors, share) >= rule.enough("other arm"):
        return f"{failed}, and on the old path {old.errors} of {old.calls} did"
    return None


def _too_slow(new: ArmStats, old: ArmStats, rule: Guardrail) -> str | None:
    if min(new.succeeded, old.succeeded) < rule.min_compared:
        return None
    if log_evidence_above(new.slow, new.succeeded, _TAIL) < rule.enough("latency"):
        return None
    return (
        f"P95 latency is {new.p95_seconds:.3g} s against {old.p95_seconds:.3g} s on the old path; "
        f"{rule.latency_ratio:g} times is allowed"
    )


def _too_dear(new: ArmStats, old: ArmStats, rule: Guardrail) -> str | None:
    if min(new.priced, old.priced) < rule.min_compared or not old.mean_cost_nano or new.mean_cost_nano is None:
        return None
    allowed = rule.cost_ratio * old.mean_cost_nano
    error = math.hypot(_standard_error(new), rule.cost_ratio * _standard_error(old))
    if log_evidence_greater_mean(new.mean_cost_nano - allowed, error, allowed) < rule.enough("cost"):
        return None
    return (
        f"a call costs {_usd(new.mean_cost_nano)} against {_usd(old.mean_cost_nano)} on the old path; "
        f"{rule.cost_ratio:g} times is allowed"
    )


def _standard_error(arm: ArmStats) -> float:
    return (arm.sd_cost_nano or 0.0) / math.sqrt(arm.priced)


def _usd(nano: float) -> str:
    return format_usd(to_usd(round(nano)))
