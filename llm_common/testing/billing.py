"""Tokens as this provider counts them, and what it bills for them.

Its tokenizer is its own, like that of any provider: with the estimate of `_text.tokens` no test could find that wrong.
"""

import json
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from llm_common.testing.wire import ChatRequest, text_of
from llm_common.usage import Usage

__all__ = ["DEFAULT_PRICE", "SEARCH_PRICE_USD", "TokenPrice", "prompt_tokens", "token_count"]

_MILLION: Final = Decimal(1_000_000)
#: What each message costs on top of its text: its role and the marks around it.
_TOKENS_PER_MESSAGE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrice:
    """USD per million tokens, for each bucket of `Usage`."""

    input: Decimal
    output: Decimal
    cache_read: Decimal = Decimal(0)
    cache_write: Decimal = Decimal(0)
    cache_write_1h: Decimal = Decimal(0)

    def cost(self, usage: Usage) -> Decimal:
        """What `usage` is billed, in USD, unrounded."""
        short_writes = usage.cache_write_tokens - usage.cache_write_1h_tokens
        return (
            usage.input_tokens * self.input
            + usage.cache_read_tokens * self.cache_read
            + short_writes * self.cache_write
            + usage.cache_write_1h_tokens * self.cache_write_1h
            + usage.output_tokens * self.output
        ) / _MILLION


#: For models that the server was given no price for.
DEFAULT_PRICE: Final = TokenPrice(
    input=Decimal(1),
    output=Decimal(4),
    cache_read=Decimal("0.10"),
    cache_write=Decimal("1.25"),
    cache_write_1h=Decimal(2),
)
SEARCH_PRICE_USD: Final = Decimal("0.01")


def token_count(text: str) -> int:
    """A token for every four characters, rounded up."""
    return math.ceil(len(text) / 4)


def prompt_tokens(request: ChatRequest) -> int:
    """The tokens of all messages, of the tools, and of a schema that comes outside the messages."""
    total = sum(token_count(text_of(m)) + _TOKENS_PER_MESSAGE for m in request.messages)
    for part in (request.tools, request.raw.get("response_format"), request.raw.get("output_format")):
        if part:
            total += token_count(json.dumps(part, separators=(",", ":"), ensure_ascii=False))
    return total
