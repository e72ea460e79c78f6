"""Frozen values that cross module borders. No I/O, no heavy imports."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from llm_common._runtime.values import value
from llm_common.exceptions import InvalidInputError
from llm_common.money import to_nano
from llm_common.usage import Attempt, Usage

__all__ = [
    "Attempt",
    "Budget",
    "BudgetScope",
    "BudgetWindow",
    "CallKind",
    "CallStatus",
    "Completion",
    "CostMetrics",
    "DefaultEffort",
    "DefaultTemperature",
    "Embeddings",
    "Outcome",
    "PlannedCall",
    "PriceSource",
    "Reservation",
    "ToolCall",
    "Usage",
    "check_tags",
]

T = TypeVar("T")

#: How a price was known, best first: the provider's own figure, the host's override, a price map, a stated ceiling.
PriceSource = Literal["provider", "override", "map", "estimate"]
#: What became of a paid call. `expired`: its process died, so the bound was charged.
CallStatus = Literal["ok", "failed", "cancelled", "cut", "expired"]
#: What was paid for, in a word: chat, embedding, search, external, cache_hit, or one that a further system adds.
CallKind: TypeAlias = str
BudgetWindow = Literal["day", "month", "total"]
BudgetScope = Literal["project", "user", "model", "run", "tag"]


class DefaultTemperature(float):
    """The temperature of a caller who chose none: left out for models that are known to take none."""

    __slots__ = ()


class DefaultEffort(str):
    """The reasoning effort of a caller who chose none: sent only to models that are known to reason."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants called. `arguments` is the JSON text exactly as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion(Generic[T]):
    """One answer, and what it took to get it.

    `parsed` is the instance of the requested model, None without one. `model` is the model asked for,
    `answered_by` the name that the provider gives the model that answered. `cost_usd` is the sum over all
    attempts. Times are in seconds.

    `from_cache`: the response cache had it, so nothing was asked, used or paid. `cached_usage` is then what the answer
    took when it was asked for; `raw` and `attempts` are empty.
    """

    text: str
    parsed: T
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str | None
    usage: Usage
    cost_usd: Decimal
    price_source: PriceSource
    model: str
    answered_by: str
    provider: str
    attempts: tuple[Attempt, ...]
    seconds: float
    seconds_to_first_token: float | None = None
    request_id: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    from_cache: bool = False
    cached_usage: Usage = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """One vector for each text, in the order of the texts, and what it took to get them.

    A vector is an `array` of float32, 4 bytes a number: `list(vector)` gives floats, `numpy.frombuffer(vector, "f4")`
    shares its memory. All have the length `dimensions`. The other fields are those of `Completion`; the cost is the
    sum over all requests.
    """

    vectors: "tuple[array[float], ...]" = field(repr=False)
    dimensions: int
    usage: Usage
    cost_usd: Decimal
    price_source: PriceSource
    model: str
    answered_by: str
    provider: str
    attempts: tuple[Attempt, ...]
    seconds: float

    @property
    def vector(self) -> "array[float]":
        """The only vector. Raises `InvalidInputError` where several texts were asked for."""
        if len(self.vectors) != 1:
            raise InvalidInputError(f"there are {len(self.vectors)} vectors; take them from .vectors")
        return self.vectors[0]


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit that spending of one scope cannot pass within one window.

    `scope="project"` binds every call of the project. `"user"`, `"model"`, `"run"` and `"tag"` bind the calls that
    carry such a value, each value by itself; with `value` only that one (for a tag: `"name=value"`).
    A day and a month are those of the project's time zone (UTC unless set); `"total"` never resets.
    """

    limit_usd: Decimal
    window: BudgetWindow = "day"
    scope: BudgetScope = "project"
    value: str | None = None

    def __post_init__(self) -> None:
        to_nano(self.limit_usd, name="limit_usd")
        if self.value is not None and self.scope == "project":
            raise InvalidInputError("a project's budget takes no value; choose scope user, model, run or tag")


@dataclass(frozen=True, slots=True)
class CostMetrics:
    """A cost that happened elsewhere, for `CostTracker.log_cost`. `timestamp` must be aware; default is now."""

    model: str
    step: str
    cost_usd: Decimal
    tokens_used: int = 0
    timestamp: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        to_nano(self.cost_usd, name="cost_usd")
        if not self.model:
            raise InvalidInputError("CostMetrics.model is empty; name what was paid for")
        if self.tokens_used < 0:
            raise InvalidInputError(f"CostMetrics.tokens_used must not be negative, got {self.tokens_used}")
        if self.timestamp.tzinfo is None:
            raise InvalidInputError(
                f"CostMetrics.timestamp {self.timestamp.isoformat()} has no time zone; use datetime.now(UTC)"
            )


def check_tags(tags: Mapping[str, str]) -> None:
    """Raise `InvalidInputError` for a name that budgets could not tell from its value."""
    for name in tags:
        if not name or "=" in name:
            raise InvalidInputError(f"tag name {name!r} is empty or has a = in it; budgets write tags as name=value")


@value
class PlannedCall:
    """A paid call before it is sent: who pays, and for what.

    `bound_nano` is the most it can cost. `budgets` come on top of those that the ledger has itself.
    `hold_seconds` is how long the reservation lives before its owner is taken for dead; it must outlast the call.
    """

    kind: CallKind
    model: str
    provider: str
    bound_nano: int
    step: str | None = None
    user_id: str | None = None
    run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    budgets: tuple[Budget, ...] = ()
    idempotency_key: str | None = None
    hold_seconds: float = 900.0

    def __post_init__(self) -> None:
        check_tags(self.tags)

    def grown(self, more_nano: int, *, model: str | None = None, provider: str | None = None) -> "PlannedCall":
        """The same call with a further attempt, by another model where one is named."""
        return replace(
            self,
            bound_nano=self.bound_nano + more_nano,
            model=model or self.model,
            provider=self.provider if provider is None else provider,
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money set aside for one planned call. `id` is the key under which it is settled, once."""

    id: str
    call: PlannedCall


@value
class Outcome:
    """What a paid call came to, for its ledger row: `model` was asked for, `answered_by` answered.

    `calls` is above 1 only for cache hits, of which one row takes in many. `listed_nano` is what the listed price says
    of the same usage, where the provider named its own figure. `answer` is the answer's text, only for a ledger that
    `wants_answer`.
    """

    model: str
    provider: str
    cost_nano: int
    price_source: PriceSource
    status: CallStatus
    answered_by: str | None = None
    usage: Usage = Usage()
    seconds: float = 0.0
    attempts: int = 1
    calls: int = 1
    listed_nano: int | None = None
    answer: str | None = field(default=None, repr=False)
