"""What a provider counted: its `usage` object as disjoint buckets, and its own price. Pure.

OpenAI, OpenRouter and z.ai count cached tokens inside `prompt_tokens`; Anthropic's own `input_tokens` are without them.
A count that cannot be true is no count: what nobody knows is charged at the call's bound, never as nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from math import isfinite
from typing import Any, cast

from llm_common.usage import Usage

__all__ = ["cost_in", "merge_usage", "plausible", "usage_in"]

Json = Mapping[str, Any]

_NOTHING: Json = {}
#: No request has a trillion tokens; a larger number is not a count.
_MOST_TOKENS = 10**12


def usage_in(payload: Json) -> Usage | None:
    """The usage of an answer or of a stream's event; None where there is none that can be read."""
    usage = _mapping(payload.get("usage"))
    prompt, fresh = _count(usage, "prompt_tokens"), _count(usage, "input_tokens")
    if prompt is not None:
        return _openai(usage, prompt)
    if fresh is not None:
        return _anthropic(usage, fresh)
    if not usage.keys().isdisjoint({"prompt_tokens", "input_tokens"}):
        return None
    # Anthropic's last event counts the answer alone, and so do servers that tell the halves apart.
    output = _count(usage, "completion_tokens") or _count(usage, "output_tokens")
    return None if output is None else _with_parts(Usage(output_tokens=output), usage)


def plausible(usage: Usage | None, *, answered: bool) -> Usage | None:
    """The usage itself; None where the request or what was `answered` counts for nothing in it, so nobody counted."""
    if usage is None or not answered:
        return usage
    return usage if usage.prompt_tokens and usage.output_tokens else None


def merge_usage(one: Usage | None, other: Usage) -> Usage:
    """Of two counts of one stream the larger for each side: they are cumulative, and a later one may leave one out."""
    if one is None:
        return other
    prompt = other if other.prompt_tokens >= one.prompt_tokens else one
    answer = other if other.output_tokens >= one.output_tokens else one
    return replace(
        prompt,
        output_tokens=answer.output_tokens,
        reasoning_tokens=answer.reasoning_tokens,
        output_audio_tokens=answer.output_audio_tokens,
        output_image_tokens=answer.output_image_tokens,
        web_searches=max(one.web_searches, other.web_searches),
    )


def cost_in(payload: Json, provider: str) -> Decimal | None:
    """The provider's own price in US dollars (OpenRouter's `usage.cost`), to the digit that it printed.

    With a key of your own at the upstream provider (`is_byok`), `cost` is OpenRouter's fee only, and the upstream's
    price comes on top. Nobody else's zero is a price: gateways send one for what they have no price for.
    """
    usage = _mapping(payload.get("usage"))
    cost = _dollars(usage.get("cost"))
    if cost is None or (cost == 0 and provider != "openrouter"):
        return None
    if usage.get("is_byok") is not True:
        return cost
    return cost + (_dollars(_mapping(usage.get("cost_details")).get("upstream_inference_cost")) or 0)


def _openai(usage: Json, prompt: int) -> Usage:
    details = _details(usage, "prompt")
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
    surplus = 0 if total is None else max(0, total - prompt - output)
    reasoning = _count(_details(usage, "completion"), "reasoning_tokens") or 0
    beside, unexplained = _beside(read, written, surplus, reasoning) if surplus else (0, 0)
    counted = Usage(
        input_tokens=max(0, prompt + beside - read - written),
        cache_read_tokens=read,
        cache_write_tokens=written,
        # xAI and Gemini count reasoning in the total only; it is billed as output.
        output_tokens=output + unexplained,
    )
    return _with_parts(counted, usage)


def _beside(read: int, written: int, surplus: int, reasoning: int) -> tuple[int, int]:
    """How many cached tokens are beside the prompt instead of in it, and how much of the surplus they do not explain.

    `surplus` is what the total has beyond prompt and completion.
    """
    caches = (0, *sorted((read, written)), read + written)
    for thought in (reasoning, 0):
        if surplus - thought in caches:
            return surplus - thought, thought
    beside = max(cache for cache in caches if cache <= max(0, surplus - reasoning))
    return beside, surplus - beside


def _anthropic(usage: Json, fresh: int) -> Usage:
    counted = Usage(
        input_tokens=fresh,
        cache_read_tokens=_count(usage, "cache_read_input_tokens") or 0,
        cache_write_tokens=_count(usage, "cache_creation_input_tokens") or 0,
        output_tokens=_count(usage, "output_tokens") or 0,
    )
    # OpenAI's Responses say `input_tokens` too, and count the cached ones in it.
    cached = _count(_details(usage, "prompt"), "cached_tokens") or 0
    if cached and not counted.cache_read_tokens:
        counted = replace(counted, input_tokens=max(0, fresh - cached), cache_read_tokens=cached)
    return _with_parts(counted, usage)


def _with_parts(counted: Usage, usage: Json) -> Usage:
    """The same with the parts of each bucket that have prices of their own."""
    asked, said = _details(usage, "prompt"), _details(usage, "completion")
    audio, cached = _count(asked, "audio_tokens") or 0, _details(asked, "cached")
    lifetimes = _mapping(usage.get("cache_creation") or asked.get("cache_creation_token_details"))
    # Sound that is not among the fresh tokens was read from the cache.
    read_audio = _count(cached, "audio_tokens") or max(0, audio - counted.input_tokens)
    searches = (_count(_mapping(place), "web_search_requests") for place in (usage.get("server_tool_use"), asked))
    return replace(
        counted,
        reasoning_tokens=min(counted.output_tokens, _count(said, "reasoning_tokens") or 0),
        cache_write_1h_tokens=min(counted.cache_write_tokens, _count(lifetimes, "ephemeral_1h_input_tokens") or 0),
        cache_read_audio_tokens=min(counted.cache_read_tokens, read_audio),
        input_audio_tokens=min(counted.input_tokens, max(0, audio - read_audio)),
        input_image_tokens=min(counted.input_tokens, sum(_pictures(asked))),
        output_audio_tokens=min(counted.output_tokens, _count(said, "audio_tokens") or 0),
        output_image_tokens=min(counted.output_tokens, sum(_pictures(said))),
        web_searches=max(filter(None, searches), default=0),
    )


def _pictures(details: Json) -> Iterator[int]:
    yield _count(details, "image_tokens") or 0
    yield _count(details, "video_tokens") or 0


_SPELLINGS = {
    "prompt": ("prompt_tokens_details", "input_tokens_details"),
    "completion": ("completion_tokens_details", "output_tokens_details"),
    "cached": ("cached_tokens_details",),
}


def _details(usage: Json, side: str) -> Json:
    return next((found for name in _SPELLINGS[side] if (found := _mapping(usage.get(name)))), _NOTHING)


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
