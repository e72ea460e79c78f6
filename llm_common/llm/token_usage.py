"""What a provider counted: its `usage` object as four disjoint buckets, and its own price. Pure.

OpenAI, OpenRouter and z.ai count cached tokens inside `prompt_tokens`; Anthropic's own `input_tokens` are without them.
"""

from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any, cast

from llm_common.usage import Usage

__all__ = ["cost_in", "usage_in"]

Json = Mapping[str, Any]

_NOTHING: Json = {}
#: No request has a trillion tokens; a larger number is not a count.
_MOST_TOKENS = 10**12


def usage_in(payload: Json) -> Usage | None:
    """The usage of an answer or of a stream's last chunk; None where there is none that can be read."""
    usage = _mapping(payload.get("usage"))
    prompt = _count(usage, "prompt_tokens")
    if prompt is not None:
        return _openai(usage, prompt)
    fresh = _count(usage, "input_tokens")
    return None if fresh is None else _anthropic(usage, fresh)


def cost_in(payload: Json) -> Decimal | None:
    """The provider's own price in US dollars (OpenRouter's `usage.cost`), to the digit that it printed.

    With a key of your own at the upstream provider (`is_byok`), `cost` is OpenRouter's fee only, and the upstream's
    price comes on top.
    """
    usage = _mapping(payload.get("usage"))
    cost = _dollars(usage.get("cost"))
    if cost is None or usage.get("is_byok") is not True:
        return cost
    return cost + (_dollars(_mapping(usage.get("cost_details")).get("upstream_inference_cost")) or 0)


def _openai(usage: Json, prompt: int) -> Usage:
    details = _mapping(usage.get("prompt_tokens_details"))
    # Servers fill unknown spellings with 0, so the first that counted something wins.
    read = (
        _count(details, "cached_tokens")
        or _count(usage, "cache_read_input_tokens")
        or _count(usage, "prompt_cache_hit_tokens")  # DeepSeek
        or 0
    )
    written = (
        _count(details, "cache_write_tokens")  # OpenRouter
        or _count(details, "cache_creation_tokens")  # LiteLLM
        or _count(usage, "cache_creation_input_tokens")
        or 0
    )
    output = _count(usage, "completion_tokens") or 0
    total = _count(usage, "total_tokens")
    if total is not None and total > prompt + output:
        # xAI and Gemini count reasoning in the total only; it is billed as output.
        output = total - prompt
    return Usage(
        input_tokens=max(0, prompt - read - written),
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=min(output, _reasoning(usage)),
        cache_write_1h_tokens=min(written, _kept_an_hour(usage, details)) if written else 0,
    )


def _anthropic(usage: Json, fresh: int) -> Usage:
    written = _count(usage, "cache_creation_input_tokens") or 0
    output = _count(usage, "output_tokens") or 0
    return Usage(
        input_tokens=fresh,
        cache_read_tokens=_count(usage, "cache_read_input_tokens") or 0,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=min(output, _reasoning(usage)),
        cache_write_1h_tokens=min(written, _kept_an_hour(usage, _NOTHING)),
    )


def _reasoning(usage: Json) -> int:
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    return _count(_mapping(details), "reasoning_tokens") or 0


def _kept_an_hour(usage: Json, details: Json) -> int:
    by_lifetime = usage.get("cache_creation") or details.get("cache_creation_token_details")
    return _count(_mapping(by_lifetime), "ephemeral_1h_input_tokens") or 0


def _mapping(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else _NOTHING


def _count(source: Json, name: str) -> int | None:
    value = source.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # By its type: True is an int, too.
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


def _dollars(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, float) and not isfinite(value):
        return None
    try:
        # A float prints as the shortest text that reads back as itself: the digits that the provider printed.
        amount = Decimal(str(value))
    except ArithmeticError:
        return None
    return amount if amount.is_finite() and amount >= 0 else None
