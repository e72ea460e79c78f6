"""Circuit breaker per model and place: a model that keeps failing is left alone for a while.

closed --(`threshold` failures in a row)--> open --(`cooldown` seconds)--> half-open: one probe is let through.
The probe's success closes the circuit, its failure opens it for twice as long (up to `max_cooldown`). The last
candidate of a call is asked all the same: a call that is refused here is no better off than one that fails there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from llm_common._runtime.fork import fork_safe_lock
from llm_common.exceptions import (
    ConnectionFailedError,
    DeadlineExceededError,
    LimitReachedError,
    LLMError,
    ProviderError,
    RateLimitError,
)

__all__ = ["BreakerPolicy", "Breakers", "Circuit", "allows", "on_failure", "process_breakers", "state_of"]

CircuitState = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """`threshold` failures in a row open the circuit; times are in seconds."""

    threshold: int = 5
    cooldown: float = 15.0
    max_cooldown: float = 240.0


@dataclass(frozen=True, slots=True)
class Circuit:
    """One model's recent health. `opened_at` and `probe_at` are monotonic seconds."""

    failures: int = 0
    opened_at: float | None = None
    cooldown: float = 0.0
    probe_at: float | None = None


def state_of(circuit: Circuit, now: float) -> CircuitState:
    if circuit.opened_at is None:
        return "closed"
    return "open" if now < circuit.opened_at + circuit.cooldown else "half-open"


def allows(circuit: Circuit, now: float) -> bool:
    """Whether a request may go. Half-open lets one probe through, and another if that one was never heard of."""
    match state_of(circuit, now):
        case "closed":
            return True
        case "open":
            return False
        case "half-open":
            return circuit.probe_at is None or now >= circuit.probe_at + circuit.cooldown


def on_failure(circuit: Circuit, now: float, policy: BreakerPolicy) -> Circuit:
    failures = circuit.failures + 1
    if circuit.opened_at is not None:
        # Only a failed probe prolongs the wait; stragglers that were sent before it opened say nothing new.
        if state_of(circuit, now) == "open":
            return replace(circuit, failures=failures)
        return Circuit(failures, now, min(policy.max_cooldown, circuit.cooldown * 2))
    if failures >= policy.threshold:
        return Circuit(failures, now, policy.cooldown)
    return Circuit(failures)


def counts_against_model(error: LLMError) -> bool:
    """Faults of the provider count; the caller's own mistakes and limits, and a model's bad answers, do not."""
    if isinstance(error, LimitReachedError):
        return False
    return isinstance(error, ProviderError | ConnectionFailedError | DeadlineExceededError | RateLimitError)


class Breakers:
    """The circuits by (place, model). Safe from threads."""

    def __init__(self, policy: BreakerPolicy | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy or BreakerPolicy()
        self._clock = clock
        self._guard = fork_safe_lock()
        self._circuits: dict[tuple[str, str], Circuit] = {}

    def admit(self, key: tuple[str, str]) -> bool:
        """Ask before sending; a half-open circuit's one probe is taken by execution."""
        with self._guard:
            circuit, now = self._circuits.get(key), self._clock()
            if circuit is None or circuit.opened_at is None:
                return True
            if not allows(circuit, now):
                return False
            self._circuits[key] = replace(circuit, probe_at=now)
            return True

    def succeeded(self, key: tuple[str, str]) -> None:
        # The healthy case must cost nothing: no entry is no failure.
        if key in self._circuits:
            with self._guard:
                self._circuits.pop(key, None)

    def failed(self, key: tuple[str, str], error: LLMError) -> None:
        if not counts_against_model(error):
            return
        with self._guard:
            self._circuits[key] = on_failure(self._circuits.get(key, Circuit()), self._clock(), self._policy)

    def health(self) -> dict[tuple[str, str], CircuitState]:
        """The state of each circuit that saw a failure since its last success."""
        with self._guard:
            now = self._clock()
            return {key: state_of(circuit, now) for key, circuit in self._circuits.items()}


#: Clients come and go with requests; what they learned about a model's health stays.
process_breakers = Breakers()
