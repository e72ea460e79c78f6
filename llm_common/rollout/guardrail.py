"""When the new path is taken back. Pure decisions."""

import math
from dataclasses import dataclass

from llm_common.db.functions.rollout import ArmStats
from llm_common.exceptions import InvalidInputError
from llm_common.money import format_usd, to_usd

__all__ = ["Guardrail", "rollback_reason", "wilson_lower_bound"]


@dataclass(frozen=True, slots=True)
class Guardrail:
    """When the new path is rolled back. Only what is beyond doubt counts: `z` standard errors (3: one in 700).

    Errors: the rate is above `max_error_rate`, judged from `min_calls` calls on. A plain "rate > 5 %" would roll
    back two thirds of the healthy paths that fail 3 % of the time.

    Latency: more than 5 % of the new path's calls take longer than `latency_ratio` times the old path's P95; that
    is, its P95 is higher by more than that. Cost: its mean is more than `cost_ratio` times the old path's. Both
    are judged once each arm has `min_compared` calls with a known figure; comparing the figures themselves instead
    would roll back up to 40 % of new paths that are just like the old.

    The window is each arm's latest `window_calls` calls within `window_seconds`.
    """

    max_error_rate: float = 0.05
    min_calls: int = 20
    latency_ratio: float = 1.5
    cost_ratio: float = 1.5
    min_compared: int = 50
    z: float = 3.0
    window_calls: int = 200
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
        if not 1 <= max(self.min_calls, self.min_compared) <= self.window_calls <= 2000:  # noqa: PLR2004 (what SQL keeps)
            raise InvalidInputError(
                f"window_calls must be at most 2000 and hold min_calls and min_compared, not {self.window_calls}"
            )
        if self.z <= 0 or self.window_seconds <= 0:
            raise InvalidInputError(f"z {self.z} and window_seconds {self.window_seconds} must be positive")


def wilson_lower_bound(hits: int, trials: int, z: float) -> float:
    """The lowest rate that is still compatible with `hits` of `trials`; 0 for no trials.

    Wilson's score interval (E. B. Wilson, JASA 22, 1927): unlike the plain one it holds for few trials and rates
    near 0.
    """
    if trials == 0:
        return 0.0
    rate, square = hits / trials, z * z
    spread = z * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials * trials))
    return max(0.0, (rate + square / (2 * trials) - spread) / (1 + square / trials))


def rollback_reason(new: ArmStats, old: ArmStats, rule: Guardrail) -> str | None:
    """Why the new path is to be taken back, in words; None where it may go on."""
    return _too_many_errors(new, rule) or _too_slow(new, old, rule) or _too_dear(new, old, rule)


def _too_many_errors(new: ArmStats, rule: Guardrail) -> str | None:
    if new.calls < rule.min_calls or wilson_lower_bound(new.errors, new.calls, rule.z) <= rule.max_error_rate:
        return None
    return f"{new.errors} of the last {new.calls} calls failed; {rule.max_error_rate:.1%} is allowed"


def _too_slow(new: ArmStats, old: ArmStats, rule: Guardrail) -> str | None:
    if min(new.succeeded, old.succeeded) < rule.min_compared:
        return None
    if wilson_lower_bound(new.slow, new.succeeded, rule.z) <= 0.05:  # noqa: PLR2004 (what a P95 leaves above it)
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
    if new.mean_cost_nano - allowed <= rule.z * error:
        return None
    return (
        f"a call costs {_usd(new.mean_cost_nano)} against {_usd(old.mean_cost_nano)} on the old path; "
        f"{rule.cost_ratio:g} times is allowed"
    )


def _standard_error(arm: ArmStats) -> float:
    return (arm.sd_cost_nano or 0.0) / math.sqrt(arm.priced)


def _usd(nano: float) -> str:
    return format_usd(to_usd(round(nano)))
