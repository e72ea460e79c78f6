"""From what the model should say to what it says: tokens are counted, `max_tokens` is kept, the bill is made."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

from llm_common.models import ToolCall
from llm_common.testing.billing import TokenPrice, prompt_tokens, token_count
from llm_common.testing.wire import ChatRequest, Json, Reply
from llm_common.usage import Usage

__all__ = ["Event", "Generation", "Rendered", "cost_so_far", "generate", "pieces_of"]

_PIECE: Final = re.compile(r"\s*\S{1,12}|\s+")
_CHARACTERS_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One finished answer, in no wire format yet. `finish_reason` is in OpenAI's words."""

    number: int
    created: int
    request: ChatRequest
    answered_by: str
    text: str | None
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str
    reasoning: str | None
    results: tuple[Mapping[str, Any], ...] | None
    usage: Usage
    price: TokenPrice
    cost_usd: Decimal
    pieces: tuple[str, ...]
    no_choices: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A piece of a stream. `is_content`: it carries a part of the answer. `output_tokens`: made so far."""

    data: bytes
    is_content: bool = False
    output_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """An answer on the wire: as one body, and as the events of a stream."""

    body: Json
    events: tuple[Event, ...]


def pieces_of(text: str) -> tuple[str, ...]:
    """`text` cut as a stream cuts it: words, and long words in parts. Joined they are the text again."""
    return tuple(_PIECE.findall(text))


def cost_so_far(generation: Generation, output_tokens: int) -> Decimal | None:
    """What is billed when the client leaves after `output_tokens`; None before the first."""
    if output_tokens == 0:
        return None
    done = replace(generation.usage, output_tokens=min(output_tokens, generation.usage.output_tokens))
    return min(generation.price.cost(done), generation.cost_usd)


def generate(
    request: ChatRequest,
    reply: Reply,
    *,
    number: int,
    price: TokenPrice,
    extra_cost_usd: Decimal = Decimal(0),
    no_choices: bool = False,
) -> Generation:
    """The answer to `request`. `number` makes its ids; `extra_cost_usd` is for what the model used on the way."""
    text, calls = _as_forced_call(request, reply.text, reply.tool_calls, number)
    reasoning = reply.reasoning or _default_reasoning(request)
    budget = request.max_tokens if reply.usage is None else None
    cut = _Budget(budget)
    reasoning = cut.take(reasoning)
    text = cut.take(text)
    calls = tuple(replace(call, arguments=cut.take(call.arguments) or "") for call in calls)
    usage = reply.usage or Usage(
        input_tokens=prompt_tokens(request),
        output_tokens=cut.used,
        reasoning_tokens=token_count(reasoning or ""),
    )
    cost = price.cost(usage) + extra_cost_usd if reply.cost_usd is None else reply.cost_usd
    whole = reply.pieces is not None and "".join(reply.pieces) == text
    return Generation(
        number=number,
        created=int(time.time()),
        request=request,
        answered_by=reply.answered_by or request.model,
        text=text,
        tool_calls=calls,
        finish_reason="length" if cut.ran_out else reply.finish_reason or _natural_finish(request, calls),
        reasoning=reasoning,
        results=reply.results,
        usage=usage,
        price=price,
        cost_usd=cost,
        pieces=reply.pieces if whole and reply.pieces else pieces_of(text or ""),
        no_choices=no_choices,
    )


class _Budget:
    """Hands out tokens until `max_tokens` are used."""

    def __init__(self, max_tokens: int | None) -> None:
        self._left = max_tokens
        self.used = 0
        self.ran_out = False

    def take(self, text: str | None) -> str | None:
        if not text:
            return text
        if self._left is not None and token_count(text) > self._left:
            text = text[: self._left * _CHARACTERS_PER_TOKEN]
            self.ran_out = True
        tokens = token_count(text)
        self.used += tokens
        if self._left is not None:
            self._left -= tokens
        return text


def _as_forced_call(
    request: ChatRequest, text: str | None, calls: Sequence[ToolCall], number: int
) -> tuple[str | None, tuple[ToolCall, ...]]:
    if request.forced_tool is None or calls or not text:
        return text, tuple(calls)
    prefix = "toolu" if request.provider == "anthropic" else "call"
    return None, (ToolCall(id=f"{prefix}_{number:012d}", name=request.forced_tool, arguments=text),)


def _natural_finish(request: ChatRequest, calls: Sequence[ToolCall]) -> str:
    # OpenAI ends with "stop" where the request names the tool, with "tool_calls" where the model chose it.
    named = request.provider == "openai" and isinstance(request.raw.get("tool_choice"), Mapping)
    return "tool_calls" if calls and not named else "stop"


def _default_reasoning(request: ChatRequest) -> str | None:
    """z.ai's models think before they speak unless they are told not to; the others answer at once here."""
    thinking: Mapping[str, Any] = request.raw.get("thinking") or {}
    if request.provider != "zai" or thinking.get("type") == "disabled":
        return None
    return f"The user says: {request.last_user_text[:60]} I answer that directly."
