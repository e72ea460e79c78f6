"""The SQL functions of migrations/*_rate_limits.sql: limits that many processes share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from llm_common.db.transport import Call, Json
from llm_common.exceptions import DatabaseError

__all__ = ["RateCorrection", "RateDemand", "RateLimitFunctions", "RateRefusal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateDemand:
    """What a request wants under one key: a slot among `concurrency`, and microseconds of each bucket's refill.

    It goes while a bucket is at most `..._spare_us` from full. None is no limit.
    """

    key: str
    concurrency: int | None = None
    requests_us: int | None = None
    requests_spare_us: int | None = None
    tokens_us: int | None = None
    tokens_spare_us: int | None = None


@dataclass(frozen=True, slots=True)
class RateRefusal:
    """Why it may not go now. `wait_us` is how long at least; None: until a slot comes free."""

    key: str
    limit: str
    wait_us: int | None


@dataclass(frozen=True, slots=True)
class RateCorrection:
    """By how much the buckets of a key move once a request is over, in microseconds; negative gives back."""

    key: str
    requests_us: int = 0
    tokens_us: int = 0


class RateLimitFunctions:
    """`db.rate_limits`. A permit is a UUID of the caller's; keys are counted apart in each `namespace`."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def take(
        self, namespace: str, permit: str, demands: Sequence[RateDemand], *, lease_seconds: float
    ) -> list[RateRefusal]:
        """Take all that is demanded, or nothing and say why. Slots are held for at most `lease_seconds`."""
        wanted: list[Json] = [
            {
                "key": demand.key,
                "concurrency": demand.concurrency,
                "requests_us": demand.requests_us,
                "requests_spare_us": demand.requests_spare_us,
                "tokens_us": demand.tokens_us,
                "tokens_spare_us": demand.tokens_spare_us,
            }
            for demand in demands
        ]
        answer = await self._call(
            "rate_limit_take",
            {"of_namespace": namespace, "with_permit": permit, "demands": wanted, "lease_seconds": lease_seconds},
        )
        if not isinstance(answer, list):
            raise DatabaseError("rate_limit_take gave no list; run `llm-common migrate`")
        return [RateRefusal(**refusal) for refusal in cast("list[dict[str, Any]]", answer)]

    async def end(self, namespace: str, permit: str, corrections: Sequence[RateCorrection]) -> int:
        """Free the permit's slots under the keys of `corrections`, and correct their buckets."""
        moves: list[Json] = [
            {"key": move.key, "requests_us": move.requests_us, "tokens_us": move.tokens_us} for move in corrections
        ]
        freed = await self._call(
            "rate_limit_end", {"of_namespace": namespace, "with_permit": permit, "corrections": moves}
        )
        return freed if isinstance(freed, int) else 0
