"""An answer as it is stored, and what is needed of a store. Pure."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from llm_common.models import Completion, PriceSource, ToolCall
from llm_common.usage import Usage

__all__ = ["Lookup", "Owner", "ResponseCache", "StoredAnswer", "storable"]

#: Whole answers: what was cut by a limit or by safety rules, or ended in a way that nobody knows, is asked for again.
_WHOLE = ("stop", "tool_calls")
#: What an entry weighs besides its texts. Measured, rounded up.
_ENTRY_BYTES = 2_000

_Count = Annotated[int, Field(ge=0)]


class StoredAnswer(BaseModel):
    """One good answer, without the provider's raw body: what it said, and what it took when it was asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = Field(repr=False)
    tool_calls: tuple[tuple[str, str, str], ...] = Field(default=(), repr=False)
    finish_reason: Literal["stop", "tool_calls"]
    answered_by: str
    provider: str
    price_source: PriceSource
    usage: tuple[_Count, _Count, _Count, _Count, _Count, _Count]

    @property
    def used(self) -> Usage:
        """The tokens that the answer took."""
        return Usage(*self.usage)

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return tuple(ToolCall(*call) for call in self.tool_calls)

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        return _ENTRY_BYTES + sum(map(sys.getsizeof, (self.text, *(part for call in self.tool_calls for part in call))))


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose an answer is: nobody else gets it, and with its user's data it is deleted."""

    project: str
    user_id: str | None


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a store knows of a key. `ticket` lets an answer be stored that is asked for now; None: store nothing."""

    answer: StoredAnswer | None = field(default=None, repr=False)
    ticket: str | None = None


class ResponseCache(Protocol):
    """A store of answers. What it raises is logged, and the model is asked."""

    async def get(self, key: str) -> Lookup: ...

    async def put(self, key: str, owner: Owner, answer: StoredAnswer, *, ticket: str) -> None:
        """Store an answer, unless its owner's were forgotten since the ticket was given."""
        ...


def storable(completion: Completion[Any]) -> StoredAnswer | None:
    """The answer to store; None for one that is not whole."""
    if completion.finish_reason not in _WHOLE or not (completion.text.strip() or completion.tool_calls):
        return None
    used = completion.usage
    fields: Mapping[str, Any] = {
        "text": completion.text,
        "tool_calls": tuple((call.id, call.name, call.arguments) for call in completion.tool_calls),
        "finish_reason": completion.finish_reason,
        "answered_by": completion.answered_by,
        "provider": completion.provider,
        "price_source": completion.price_source,
        "usage": (
            used.input_tokens,
            used.cache_read_tokens,
            used.cache_write_tokens,
            used.output_tokens,
            used.reasoning_tokens,
            used.cache_write_1h_tokens,
        ),
    }
    return StoredAnswer(**fields)
