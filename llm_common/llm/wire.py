"""What goes to a provider and what comes back, in one shape for every wire."""

from array import array
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol, cast

from llm_common._runtime.values import value
from llm_common.llm.dialect import Dialect
from llm_common.models import ToolCall
from llm_common.usage import Usage

__all__ = [
    "EmbeddingRequest",
    "Route",
    "ToolCallDelta",
    "Wire",
    "WireAnswer",
    "WireChunk",
    "WireName",
    "WireRequest",
    "WireVectors",
]

WireName = Literal["direct", "litellm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where one model is reached: the key and the base URL always travel with the model's name.

    `asked` is the name that the caller used, `name` the provider's own name for the model, `base_url` has no
    trailing slash. `provider` is `openai`, `openrouter`, `zai`, `anthropic` or another name that LiteLLM knows.
    """

    asked: str
    provider: str
    name: str
    wire: WireName
    base_url: str | None
    api_key: str | None = field(repr=False)


@value
class WireRequest:
    """One request. `messages`, `tools` and `response_format` are in OpenAI's shapes.

    `max_tokens` bounds the answer (reasoning included). `extra` goes through to the provider as it is.
    """

    route: Route
    messages: tuple[Mapping[str, Any], ...]
    temperature: float | None = None
    max_tokens: int | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    response_format: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    dialect: Dialect = field(default_factory=Dialect)

    @property
    def bound_name(self) -> str:
        """What `max_tokens` is called: as the caller did, else as the server wants it."""
        return "max_completion_tokens" if "max_completion_tokens" in self.extra else self.dialect.max_tokens

    @property
    def answers(self) -> int:
        """How many answers are asked for at once: the caller's `n`. Only the first of them is given out."""
        return max(self._choices(self.extra), self._choices(self.extra.get("extra_body")), 1)

    @staticmethod
    def _choices(arguments: object) -> int:
        number = cast("Mapping[str, Any]", arguments).get("n") if isinstance(arguments, Mapping) else None
        return number if isinstance(number, int) else 1

    @property
    def tool_names(self) -> frozenset[str]:
        kinds = [tool.get(kind) for tool in self.tools for kind in ("function", "custom")]
        named = [cast("Mapping[str, Any]", kind).get("name") for kind in kinds if isinstance(kind, Mapping)]
        return frozenset(name for name in named if isinstance(name, str))


@value
class WireAnswer:
    """One complete answer. `usage` is None where the provider sent none; `cost_usd` is the provider's own figure."""

    text: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str | None
    usage: Usage | None
    cost_usd: Decimal | None
    answered_by: str
    request_id: str | None
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallDelta:
    """A piece of a tool call: `id` and `name` come with its first piece, `arguments` in pieces of JSON text."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@value
class WireChunk:
    """One piece of a stream. `usage` and `cost_usd` are what was counted up to here, if anything.

    `reasoning` is not for the reader of the answer, but it is billed like one. `media`: there were pictures or sound in
    it, which are not handed out.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    media: bool = False
    finish_reason: str | None = None
    usage: Usage | None = None
    cost_usd: Decimal | None = None
    answered_by: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """One request for vectors: one for each text. `dimensions` None is the model's own number of them."""

    route: Route
    texts: tuple[str, ...] = field(repr=False)
    dimensions: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class WireVectors:
    """One vector (float32) for each text, in the order of the texts. `usage` and `cost_usd` as in `WireAnswer`."""

    vectors: tuple["array[float]", ...] = field(repr=False)
    usage: Usage | None
    cost_usd: Decimal | None
    answered_by: str
    request_id: str | None


class Wire(Protocol):
    """A way to reach providers. It never retries, and raises nothing but `LLMError` (and lets cancellation pass).

    `ConfigurationError` says that nothing can be sent.

    An error's `maybe_billed` is true when the provider may charge the request all the same.
    """

    async def send(self, request: WireRequest, *, timeout: float) -> WireAnswer:
        """Send and wait for the whole answer, at most `timeout` seconds."""
        ...

    def stream(self, request: WireRequest, *, timeout: float) -> AbstractAsyncContextManager[AsyncIterator[WireChunk]]:
        """Open a stream; leaving the context closes the provider's connection at once."""
        ...

    async def embed(self, request: EmbeddingRequest, *, timeout: float) -> WireVectors:
        """Send and wait for all the vectors, at most `timeout` seconds."""
        ...

    async def aclose(self) -> None:
        """Close what this wire holds on the running event loop."""
        ...
