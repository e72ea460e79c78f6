"""What is asked, and who may be asked: the values of one call, and what a request to a candidate can cost. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from llm_common._runtime.values import value
from llm_common._text.tokens import format_bound, upper_bound
from llm_common.exceptions import BadRequestError, ConfigurationError, LLMError
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.llm.dialect import Dialect, dialect_of, refusal_in
from llm_common.llm.pricing import Price, bound_nano, cost_nano
from llm_common.llm.provider_tools import TOKENS_PER_SEARCH, most_searches
from llm_common.llm.structured.output_modes import mode_for, with_output
from llm_common.llm.structured.schema import OutputSpec
from llm_common.llm.wire import Route, Wire, WireRequest
from llm_common.models import Budget, CallKind, DefaultEffort, DefaultTemperature, PlannedCall, PriceSource
from llm_common.money import to_nano
from llm_common.usage import Usage

__all__ = ["CallPlan", "Candidate", "Charge", "Messages", "Question", "broken_off"]

Messages = tuple[Mapping[str, Any], ...]

#: The most that an answer of a model is bounded by whose own limit nobody knows.
_USUAL_LIMIT = 32_768


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


class Server:
    """What one server has taught by its refusals, for all calls of one client."""

    def __init__(self) -> None:
        self.dialect: Dialect | None = None


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
    server: Server = field(default_factory=Server, compare=False, repr=False)

    @property
    def circuit(self) -> tuple[str, str]:
        """The key of its circuit breaker: the same model behind another URL fails for reasons of its own."""
        return (self.route.base_url or self.route.provider, self.route.name)

    @property
    def window(self) -> int | None:
        return self.info.max_input_tokens if self.info else None

    @property
    def _known_limit(self) -> int | None:
        return self.info.max_output_tokens if self.info else None

    @property
    def _dialect(self) -> Dialect:
        return self.server.dialect or dialect_of(self.route.base_url)

    def output_limit(self, question: Question) -> int:
        """The most tokens an answer can have; 32,768 for a model without a known limit, which is then also sent.

        Less where the server has said that it has no room for so many.
        """
        if limit := question.max_tokens or self._known_limit:
            return limit
        return _USUAL_LIMIT if self.server.dialect is None else self._dialect.room(question.prompt_bound, _USUAL_LIMIT)

    def learns(self, question: Question, error: LLMError) -> bool:
        """Whether a refusal says how the same request is to be made here; from then on requests are made so."""
        refusal = refusal_in(str(error)) if isinstance(error, BadRequestError) else None
        if refusal is None or refusal.parameter in question.extra:
            return False
        if refusal.parameter is None and (question.max_tokens or self._known_limit):
            return False  # the limit is the caller's own, or was not sent
        known = self._dialect
        self.server.dialect = refusal.lesson(known, question.prompt_bound)
        return self.server.dialect != known

    def request(self, question: Question, messages: Messages) -> WireRequest:
        known = self._known_limit is not None
        request = WireRequest(
            route=self.route,
            messages=messages,
            temperature=self._temperature(question),
            # Without a limit of its own an unknown model could pass the bound that was reserved for it.
            max_tokens=question.max_tokens if known else self.output_limit(question),
            tools=question.tools,
            tool_choice=question.tool_choice,
            extra=self._extra(question),
            dialect=self._dialect,
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
        searches = most_searches(request.tools, request.extra) if request.tools or request.extra else 0
        prompt += searches * TOKENS_PER_SEARCH
        if self.window is not None:
            # The cheap bound can be several times the truth, and what is beyond the window is refused, not billed.
            prompt = min(prompt, self.window)
        output = self.output_limit(question) * request.answers
        return bound_nano(self.price, prompt_tokens=prompt, output_tokens=output, searches=searches)

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


def broken_off(error: BaseException, bound: int) -> Charge:
    """What a request is charged that ended in no error of a wire's: cancelled, it is on its way and may be billed.

    Where the configuration is wrong, nothing was sent.
    """
    return Charge(0 if isinstance(error, ConfigurationError) else bound, "estimate")


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
