"""What is asked, and who may be asked: the values of one call, and what a request to a candidate can cost. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from llm_common._runtime.values import value
from llm_common._text.tokens import format_bound, upper_bound
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.llm.pricing import Price, bound_nano, cost_nano
from llm_common.llm.structured.output_modes import mode_for, with_output
from llm_common.llm.structured.schema import OutputSpec
from llm_common.llm.wire import Route, Wire, WireRequest
from llm_common.models import Budget, CallKind, DefaultEffort, DefaultTemperature, PlannedCall, PriceSource
from llm_common.money import to_nano
from llm_common.usage import Usage

__all__ = ["CallPlan", "Candidate", "Charge", "Messages", "Question"]

Messages = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Charge:
    """What one attempt cost, and how that is known."""

    nano: int
    source: PriceSource
    usage: Usage = Usage()
    #: What the listed price says of the same usage, where the provider named its own figure.
    listed_nano: int | None = None


@value
class Question:
    """What the caller wants, whoever answers it. `reasks` is how often a misfit answer is asked for again."""

    messages: Messages
    output: OutputSpec[Any] | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reasks: int = 2
    _bound: int | None = field(default=None, init=False, compare=False, repr=False)

    @property
    def prompt_bound(self) -> int:
        """The most tokens that messages and tools can have. Every candidate is judged by it, so it is found once."""
        if self._bound is None:
            object.__setattr__(self, "_bound", upper_bound(self.messages, self.tools))
            assert self._bound is not None
        return self._bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A model that may answer: where it is, over which wire, at which price.

    `price_source` says how far `price` can be trusted; `info` is None for a model that no map knows.
    """

    route: Route
    wire: Wire
    info: ModelInfo | None
    price: Price
    price_source: PriceSource

    @property
    def circuit(self) -> tuple[str, str]:
        """The key of its circuit breaker: the same model behind another URL fails for reasons of its own."""
        return (self.route.base_url or self.route.provider, self.route.name)

    @property
    def window(self) -> int | None:
        return self.info.max_input_tokens if self.info else None

    def output_limit(self, question: Question) -> int:
        """The most tokens an answer can have; 32,768 for a model without a known limit, which is then also sent."""
        known = self.info.max_output_tokens if self.info else None
        return question.max_tokens or known or 32_768

    def request(self, question: Question, messages: Messages) -> WireRequest:
        known = self.info is not None and self.info.max_output_tokens is not None
        request = WireRequest(
            route=self.route,
            messages=messages,
            temperature=self._temperature(question),
            # Without a limit of its own an unknown model could pass the bound that was reserved for it.
            max_tokens=question.max_tokens if known else self.output_limit(question),
            tools=question.tools,
            tool_choice=question.tool_choice,
            extra=self._extra(question),
        )
        if question.output is None:
            return request
        return with_output(request, question.output, mode_for(self.route, self.info))

    def _temperature(self, question: Question) -> float | None:
        refused = self.info is not None and self.info.takes_temperature is False
        return None if refused and isinstance(question.temperature, DefaultTemperature) else question.temperature

    def _extra(self, question: Question) -> Mapping[str, Any]:
        reasons = self.info is not None and self.info.reasons
        if reasons or not isinstance(question.extra.get("reasoning_effort"), DefaultEffort):
            return question.extra
        return {key: value for key, value in question.extra.items() if key != "reasoning_effort"}

    def bound(self, question: Question, request: WireRequest) -> int:
        """The most that one request can cost, in nano-dollars."""
        as_asked = request.messages is question.messages and request.tools is question.tools
        prompt = question.prompt_bound if as_asked else upper_bound(request.messages, request.tools)
        if response_format := request.response_format or request.extra.get("response_format"):
            prompt += format_bound(response_format)
        if self.window is not None:
            # The cheap bound can be several times the truth, and what is beyond the window is refused, not billed.
            prompt = min(prompt, self.window)
        return bound_nano(self.price, prompt_tokens=prompt, output_tokens=self.output_limit(question))

    def text_bound(self, tokens: int) -> int:
        """The most that vectors of texts with so many tokens can cost, in nano-dollars."""
        return bound_nano(self.price, prompt_tokens=tokens, output_tokens=0)

    def charge(self, usage: Usage | None, cost_usd: Decimal | None, *, bound: int) -> Charge:
        """The provider's own figure, else its usage times the price, else the bound; never an invented zero."""
        if cost_usd is not None:
            listed = None if usage is None or self.price_source == "estimate" else cost_nano(self.price, usage)
            return Charge(to_nano(cost_usd), "provider", usage or Usage(), listed)
        if usage is None:
            return Charge(bound, "estimate")
        return Charge(cost_nano(self.price, usage), self.price_source, usage)


@value
class CallPlan:
    """What the ledger is told of a call before it is known who answers it."""

    kind: CallKind
    step: str | None
    user_id: str | None
    run_id: str | None
    tags: Mapping[str, str]
    budgets: tuple[Budget, ...]
    #: How long a reservation lives, in seconds.
    hold_seconds: float

    def for_candidate(self, candidate: Candidate, bound_nano: int) -> PlannedCall:
        """The call as it is planned when its first request goes to `candidate` and costs at most `bound_nano`."""
        return PlannedCall(
            kind=self.kind,
            model=candidate.route.asked,
            provider=candidate.route.provider,
            bound_nano=bound_nano,
            step=self.step,
            user_id=self.user_id,
            run_id=self.run_id,
            tags=self.tags,
            budgets=self.budgets,
            hold_seconds=self.hold_seconds,
        )
