"""The frozen values that the provider server and its users exchange. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, cast

from llm_common.models import ToolCall
from llm_common.usage import Usage

if TYPE_CHECKING:
    from llm_common.testing.faults import Fault

__all__ = [
    "Answer",
    "AnswerFunction",
    "ChatRequest",
    "EndpointName",
    "Json",
    "ProviderName",
    "RecordedRequest",
    "Reply",
    "SearchAnswerFunction",
    "SearchRequest",
    "text_of",
]

ProviderName = Literal["openai", "openrouter", "zai", "anthropic"]
EndpointName = Literal["chat", "messages", "search", "embeddings", "models", "unknown"]
Json = dict[str, Any]


def text_of(message: Mapping[str, Any]) -> str:
    """The words of a message: its content, or the text parts of it, joined by newlines."""
    content: Any = message.get("content")
    if isinstance(content, str):
        return content
    parts = cast("list[Json]", content) if isinstance(content, list) else []
    return "\n".join(str(part["text"]) for part in parts if "text" in part)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A chat request that was accepted, in one shape for all providers.

    `messages` are in OpenAI's form; Anthropic's `system` comes first as a system message. `schema` is the JSON schema
    that the answer must fit: from the response format, from the tool that is forced, or, in plain JSON mode, from the
    prompt. `forced_tool` is the tool that must be called; text answered to such a request becomes the arguments
    of that call. `max_tokens` bounds the output, None means no bound. `raw` is the body as it was sent.
    """

    provider: ProviderName
    model: str
    messages: tuple[Mapping[str, Any], ...]
    schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    forced_tool: str | None = None
    json_mode: bool = False
    max_tokens: int | None = None
    stream: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    @property
    def system_text(self) -> str:
        """All system and developer messages, joined by newlines."""
        return "\n".join(text_of(m) for m in self.messages if m.get("role") in {"system", "developer"})

    @property
    def last_user_text(self) -> str:
        """The words of the last user message that has any."""
        for message in reversed(self.messages):
            if message.get("role") == "user" and (text := text_of(message)):
                return text
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """A search that was accepted. `domain` is the one domain to search in, `recency` z.ai's word (`oneWeek`)."""

    query: str
    count: int
    domain: str | None = None
    recency: str = "noLimit"
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says. `finish_reason` is in OpenAI's words (`stop`, `length`, `tool_calls`, `content_filter`);
    the other providers' words are derived from it. None: `tool_calls` where there are any, else `stop`.
    """

    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One scripted answer, in every detail that a test may care about.

    `results` answers a search (z.ai's result objects), `text` and `tool_calls` answer a chat; without any of them the
    answer function speaks, so `Reply(delay=1)` is the usual answer, late. `usage` replaces the counted tokens (and
    what `max_tokens` would cut), `cost_usd` the computed price, `answered_by` the model's name in the answer. `pieces`
    says how a stream cuts the text. `delay` and `seconds_per_chunk` are in seconds.
    """

    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    reasoning: str | None = None
    results: tuple[Mapping[str, Any], ...] | None = None
    usage: Usage | None = None
    cost_usd: Decimal | None = None
    answered_by: str | None = None
    pieces: tuple[str, ...] | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay: float = 0.0
    seconds_per_chunk: float = 0.0


AnswerFunction = Callable[[ChatRequest], "Answer | Reply | Fault"]
SearchAnswerFunction = Callable[[SearchRequest], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """One request that arrived, and what became of it.

    `outcome` is `"answered"`, `"fault:<name>"`, `"refused:<status>"`, `"disconnected"` (the client left before the
    answer was whole), `"broken:<error>"` (the answer function raised) or `"open"` (still being worked on).
    `client_left` is also set when a client left during a fault. `chunks_sent` counts the content deltas of a
    stream. `cost_usd` is what the provider bills, None for nothing. Keys in `headers` are redacted; `body` is None
    where it was not JSON.
    """

    method: str
    path: str
    provider: ProviderName
    endpoint: EndpointName
    headers: Mapping[str, str]
    body: Any
    received_at: datetime
    outcome: str
    client_left: bool
    chunks_sent: int
    cost_usd: Decimal | None
