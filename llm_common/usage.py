"""What a request used: tokens by kind, and one line for each attempt. Imports nothing of ours."""

from dataclasses import dataclass, fields
from decimal import Decimal
from operator import add, attrgetter

__all__ = ["Attempt", "Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens in four disjoint buckets, so that none is billed twice.

    `input_tokens` are the fresh ones; `cache_read_tokens` and `cache_write_tokens` are not in it.
    `output_tokens` has the reasoning in it, `reasoning_tokens` shows how many of them. `cache_write_1h_tokens`
    shows how many of the cache writes were kept for an hour (Anthropic prices them apart).

    The last five are prices of their own, too: how many of the fresh, read and output tokens were sound or pictures
    (video counts as pictures). `web_searches` is how often the provider searched the web for the model.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    cache_read_audio_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    web_searches: int = 0

    @property
    def prompt_tokens(self) -> int:
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*map(add, _values(self), _values(other)))


_values = attrgetter(*(count.name for count in fields(Usage)))


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
