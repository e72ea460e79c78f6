"""Limits of one's own: how many requests and tokens a provider or a model may get, and how many at a time. Pure.

A limit per minute is a token bucket, kept as the moment at which it is full again (the generic cell rate algorithm,
ITU-T I.371): taking moves that moment, the passing of time is the refill, and whoever only looks changes nothing. Of
`n` per minute a tenth may go at once, and the rest is refilled at such a pace that no 60 seconds see more than `n`:
`burst + (n - burst + 1) / 60 per second < n + 1`. All arithmetic is in whole microseconds, rounded against the taker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

from llm_common.exceptions import InvalidInputError, LimitReachedError

__all__ = [
    "WAITING_SHARE",
    "Demand",
    "LimitName",
    "LimitRefusal",
    "LimitRequest",
    "Limiter",
    "Limits",
    "Permit",
    "Take",
    "demands_of",
    "limit_refusal",
    "out_of_turn",
    "take_of",
    "wait_for",
]

LimitName = Literal["concurrency", "requests_per_minute", "tokens_per_minute"]

_MINUTE = 60_000_000
_BURST_SHARE = 10
#: Of the time that a call has left, a request may spend so much on waiting for its turn. One whose turn comes with the
#: last seconds would be sent, paid for and cut off.
WAITING_SHARE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one provider or model may get. None is no limit.

    `concurrency`: requests in flight (a stream counts until it is closed). `requests_per_minute`: no 60 seconds see
    more. `tokens_per_minute`: prompt and answer together; what a request will use is guessed before (see `Gate`) and
    corrected afterwards.
    """

    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "requests_per_minute", "tokens_per_minute"):
            value: object = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidInputError(f"Limits.{name} must be a whole number of at least 1, or None; got {value!r}")


@dataclass(frozen=True, slots=True)
class Take:
    """What one request takes out of one bucket, in microseconds of refilling.

    It may go while the bucket is at most `spare_us` from full, and moves the moment when it is full by `us`.
    """

    us: int
    spare_us: int


@lru_cache(maxsize=1024)
def take_of(per_minute: int, amount: int) -> Take:
    """What `amount` takes where `per_minute` are allowed. More than a whole burst goes when the bucket is full."""
    burst = max(1, per_minute // _BURST_SHARE)
    pace = per_minute - burst + 1
    us = -(-amount * _MINUTE // pace)
    return Take(us, max(0, burst * _MINUTE // pace - us))


def wait_for(take: Take, full_at: int, now: int) -> int:
    """Microseconds until the request may go; 0 is now. `full_at` and `now` are by the same clock."""
    return max(0, full_at - take.spare_us - now)


@dataclass(frozen=True, slots=True)
class Demand:
    """What one request wants of the limits under one key."""

    key: str
    concurrency: int | None
    requests: Take | None
    tokens: Take | None
    tokens_per_minute: int | None

    def correction(self, tokens: int) -> int:
        """By how many microseconds the tokens' bucket moves once it is known that `tokens` were used."""
        if self.tokens is None or self.tokens_per_minute is None:
            return 0
        return take_of(self.tokens_per_minute, tokens).us - self.tokens.us


@dataclass(frozen=True, slots=True)
class LimitRequest:
    """What one request takes: the limits that bind it, by their keys, and the `tokens` that it will probably use.

    A key is any name: a provider, a model, a profile. Who claims under the same key shares one set of counters.
    """

    limits: Mapping[str, Limits]
    tokens: int = 0


def demands_of(claim: LimitRequest) -> tuple[Demand, ...]:
    """The claim, key by key, in the order of the keys (so that all who lock them do it in one order)."""
    return tuple(_demand(key, limits, claim.tokens) for key, limits in sorted(claim.limits.items()))


def _demand(key: str, limits: Limits, tokens: int) -> Demand:
    requests, per_minute = limits.requests_per_minute, limits.tokens_per_minute
    return Demand(
        key,
        limits.concurrency,
        None if requests is None else take_of(requests, 1),
        None if per_minute is None else take_of(per_minute, tokens),
        per_minute,
    )


@dataclass(frozen=True, slots=True)
class LimitRefusal:
    """Why a request cannot go now. `wait_us` is how long at least; None where a slot must come free first."""

    key: str
    limit: LimitName
    wait_us: int | None


def out_of_turn(demands: Sequence[Demand]) -> list[LimitRefusal]:
    """Why one did not go who was never first in line: of its limits, only that others wanted them too is known."""
    return [
        LimitRefusal(demand.key, name, None)
        for demand in demands
        for name, limit in _limits_in(demand).items()
        if limit is not None
    ]


def _limits_in(demand: Demand) -> dict[LimitName, object]:
    return {
        "concurrency": demand.concurrency,
        "requests_per_minute": demand.requests,
        "tokens_per_minute": demand.tokens,
    }


class Permit(Protocol):
    """The right to send one request. End it once, whatever became of the request."""

    async def end(self, tokens: int | None) -> None:
        """The request is over. `tokens` is what it used; None where nobody knows, and what was guessed stands."""
        ...

    async def give_back(self) -> None:
        """Nothing was sent."""
        ...


class Limiter(Protocol):
    """Who keeps the counters. Safe from many tasks, event loops and threads."""

    async def acquire(self, claim: LimitRequest, *, patience: float) -> Permit:
        """Wait in line until all limits of the claim let one request go, at most `patience` seconds.

        These are `WAITING_SHARE` of the time that the request has in all.

        Raises `LimitReachedError`: at once where the wait would be longer. A waiter that is cancelled has taken
        nothing.
        """
        ...


def limit_refusal(claim: LimitRequest, refusals: Sequence[LimitRefusal], patience: float) -> LimitReachedError:
    """The error for a request that cannot go in time: which limit, how much it allows, and when it may go."""
    # Of several, the one that takes longest; when a slot comes free, nobody knows.
    worst = max(refusals, key=lambda refusal: -1 if refusal.wait_us is None else refusal.wait_us)
    allowed: object = getattr(claim.limits.get(worst.key), worst.limit, "?")
    if worst.wait_us is None:
        when = f"the request's turn did not come within the {patience:.3g} seconds that the call could wait"
    else:
        when = (
            f"the next request may go in {worst.wait_us / 1e6:.3g} seconds, "
            f"but the call can wait for only {patience:.3g} more"
        )
    return LimitReachedError(
        f"limit {worst.limit}={allowed} of {worst.key}: {when}. Nothing was sent. "
        "Raise timeout or the limit, or name another model to go on with",
        limit=f"{worst.key}/{worst.limit}",
        retry_after=None if worst.wait_us is None else worst.wait_us / 1e6,
    )
