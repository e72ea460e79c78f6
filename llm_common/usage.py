"""What a request used: tokens by kind, and one line for each attempt. Imports nothing of ours."""

from dataclasses import dataclass
from decimal import Decimal

__all__ = ["Attempt", "Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens in four disjoint buckets, so that none is billed twice.

    `input_tokens` are the fresh ones; `cache_read_tokens` and `cache_write_tokens` are not in it.
    `output_tokens` has the reasoning in it, `reasoning_tokens` shows how many of them. `cache_write_1h_tokens`
    shows how many of the cache writes were kept for an hour (Anthropic prices them apart).
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_1h_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cache_write_1h_tokens + other.cache_write_1h_tokens,
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that was (or could not be) sent for a call.

    `error` is None for the attempt that answered. `cost_usd` is what the attempt was charged, also when it
    failed after the model had worked.
    """

    model: str
    provider: str
    error: str | None
    status: int | None
    seconds: float
    cost_usd: Decimal
