"""What a client makes calls with: models are resolved, windows looked at and money is planned before one is sent."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from llm_common._runtime.fork import fork_safe_lock
from llm_common._text.tokens import count
from llm_common.exceptions import ConfigurationError, ContextWindowError
from llm_common.ledger.protocol import Ledger, budgets_that_bind
from llm_common.llm.account import Account
from llm_common.llm.arguments import (
    CallOptions,
    CallRequest,
    Method,
    embedding_extra,
    options_of,
    question_of,
    refuse_unknown,
)
from llm_common.llm.attempts import CallExecution, Deadline
from llm_common.llm.breaker import Breakers
from llm_common.llm.cached_completion import CachedCompletion
from llm_common.llm.candidates import CallPlan, Candidate, Question
from llm_common.llm.catalogue.catalogue import Catalogue
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.llm.completion import completion_of
from llm_common.llm.embedding import EmbeddingExecution, refuse_long_texts
from llm_common.llm.embedding_batches import EmbeddingOrder, batches_of, checked_texts, most_texts
from llm_common.llm.hooks import CallHooks, CallView, Hooks
from llm_common.llm.limits.gate import Gate
from llm_common.llm.limits.local import LocalLimits
from llm_common.llm.limits.rules import Limiter, Limits
from llm_common.llm.pricing import Price, Rates
from llm_common.llm.profile import NO_PROFILE, Profile
from llm_common.llm.retrying import RetryPolicy
from llm_common.llm.routing import resolve
from llm_common.llm.stored_answer import ResponseCache
from llm_common.llm.streaming import CompletionStream, Patience
from llm_common.llm.wire import Route, Wire, WireName
from llm_common.models import Budget, CallKind, PriceSource
from llm_common.settings import Settings, UnknownPricePolicy

__all__ = ["CallFactory", "ClientConfig"]

#: What a model is taken to cost whose price nobody knows: a ceiling that only a handful of listed models pass.
UNKNOWN_PRICE = Price(rates=Rates.per_million(input="30", output="180"))

#: How much longer than its call a reservation lives: time for the settlement, also on a slow day.
_SETTLE_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """What a client was made with; how `provider`, `api_key` and `base_url` belong together is told in `routing`."""

    settings: Settings
    provider: str | None
    api_key: str | None = field(repr=False)
    base_url: str | None
    wire: WireName | None
    prices: Mapping[str, Price | ModelInfo]
    unknown_price: UnknownPricePolicy
    budgets: tuple[Budget, ...]
    policy: RetryPolicy
    breakers: Breakers
    #: What a call is asked of and how many seconds it may take, where neither it nor its profile says so.
    model: str | None
    timeout: float
    hooks: Hooks | None = None
    limits: Mapping[str, Limits] = field(default_factory=dict[str, Limits])
    limiter: Limiter | None = None
    response_cache: ResponseCache | None = None
    #: Whose the stored answers are.
    project: str = "default"


class CallFactory:
    """Makes calls for one client: owns its wires and its view of the catalogue."""

    #: An execution's answer as a `Completion`, settled. Here, so that no call pays for an import.
    completion_of = staticmethod(completion_of)

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._wires: dict[WireName, Wire] = {}
        self._catalogue = Catalogue(config.prices)
        self._candidates: dict[str, Candidate] = {}
        self._guard = fork_safe_lock()
        self._limiter = config.limiter or LocalLimits()
        self._cached: CachedCompletion | None = None

    @property
    def breakers(self) -> Breakers:
        return self._config.breakers

    def request(
        self,
        method: Method,
        messages: str | Sequence[Mapping[str, Any]],
        model: str | None,
        response_model: Any,
        arguments: Mapping[str, Any],
        profile: Profile | None,
    ) -> CallRequest:
        """What a call asks and says about itself, checked. Raises `InvalidInputError` or `ConfigurationError`."""
        refuse_unknown(method, arguments)
        question = question_of(messages, response_model, arguments, profile)
        return CallRequest(question=question, options=self.options(model, arguments, profile))

    def options(self, model: str | None, arguments: Mapping[str, Any], profile: Profile | None) -> CallOptions:
        """`options_of`, with the client's own model and timeout behind those of the call and its profile."""
        return options_of(
            model, arguments, profile=profile, default_model=self._config.model, default_timeout=self._config.timeout
        )

    def stream(
        self, request: CallRequest, ledger: Ledger, profile: Profile | None, arguments: Mapping[str, Any]
    ) -> CompletionStream[Any]:
        """The stream of a call, which is prepared when it is entered. Its times are its own, else the profile's."""
        waits = (profile or NO_PROFILE).waits(arguments.get("first_token_timeout"), arguments.get("stall_timeout"))
        return CompletionStream(partial(self.prepare, request, ledger), Patience(*waits))

    async def prepare(self, request: CallRequest, ledger: Ledger) -> CallExecution:
        """Everything that can be known before a cent is spent is checked here."""
        question, options = request.question, request.options
        deadline = Deadline(options.timeout)
        candidates = await self._candidates_for(options.models)
        fitting = await _fitting(question, candidates)
        return self._execution("chat", question, options, ledger, fitting, deadline)

    def embedding_request(
        self, texts: str | Iterable[str], model: str, arguments: Mapping[str, Any]
    ) -> tuple[EmbeddingOrder, CallOptions]:
        """What a call for vectors asks, checked. Raises `InvalidInputError`."""
        refuse_unknown("embed", arguments)
        order = EmbeddingOrder(
            texts=checked_texts(texts),
            dimensions=arguments.get("dimensions"),
            batch_size=arguments.get("batch_size"),
            concurrency=arguments.get("concurrency", 4),
            extra=embedding_extra(arguments),
        )
        return order, self.options(model, arguments, None)

    async def prepare_embedding(
        self, order: EmbeddingOrder, options: CallOptions, ledger: Ledger
    ) -> EmbeddingExecution:
        """The same for vectors, which are one model's: those of another would not be comparable."""
        deadline = Deadline(options.timeout)
        (candidate,) = await self._candidates_for(options.models)
        await refuse_long_texts(order.texts, candidate)
        batches = batches_of(
            order.texts, most=order.batch_size or most_texts(candidate.route.provider), window=candidate.window
        )
        question = Question(messages=tuple({"role": "user", "content": text} for text in order.texts))
        execution = self._execution("embedding", question, options, ledger, [candidate], deadline)
        return EmbeddingExecution(execution, candidate, order, tuple(batches))

    def _execution(
        self,
        kind: CallKind,
        question: Question,
        options: CallOptions,
        ledger: Ledger,
        fitting: Sequence[Candidate],
        deadline: Deadline,
    ) -> CallExecution:
        # What it can cost is set aside with each request, when it is known who gets it.
        plan = self._plan(kind, options)
        if (ledger.budgets or plan.budgets) and budgets_that_bind(plan.for_candidate(fitting[0], 0), ledger.budgets):
            self._refuse_unknown_prices(fitting)
        return CallExecution(
            question=question,
            candidates=fitting,
            account=Account(ledger, plan),
            deadline=deadline,
            policy=self._config.policy,
            breakers=self._config.breakers,
            hooks=self._hooks_of(question, options),
            gate=self._gate_of(options),
            fallback_on_content_policy=options.fallback_on_content_policy,
            hedge_after=options.hedge_after,
        )

    async def info(self, model: str) -> ModelInfo | None:
        """What is known about a model; raises as `prepare` does for one that cannot be called."""
        (candidate,) = await self._candidates_for((model,))
        return candidate.info

    async def host(self, model: str) -> str:
        """Where a model is asked: the host of its address with its port, or the provider where LiteLLM knows it."""
        (candidate,) = await self._candidates_for((model,))
        route = candidate.route
        return urlsplit(route.base_url).netloc.rpartition("@")[2] if route.base_url else route.provider

    def _hooks_of(self, question: Question, options: CallOptions) -> CallHooks | None:
        if self._config.hooks is None:
            return None
        view = CallView(
            models=options.models,
            messages=question.messages,
            step=options.step,
            user_id=options.user_id,
            run_id=options.run_id,
            tags=options.tags,
        )
        return CallHooks(self._config.hooks, view)

    def _gate_of(self, options: CallOptions) -> Gate | None:
        if not (self._config.limits or options.limits):
            return None
        return Gate(self._limiter, self._config.limits, options.limits)

    def caching(self, wanted: bool | None) -> CachedCompletion | None:  # noqa: FBT001 (the caller's argument)
        """The way through the response cache, where there is one and the call does not refuse it."""
        cache = self._config.response_cache
        if cache is None and wanted:
            raise ConfigurationError("cache=True needs a client with a cache: LLMClient(response_cache=...)")
        if cache is None or wanted is False:
            return None
        if self._cached is None:
            self._cached = CachedCompletion(cache, self._config.project)
        return self._cached

    async def aclose(self) -> None:
        """Close what the running event loop's calls left open."""
        if self._cached is not None:
            await self._cached.aclose()
        for wire in self._wires.values():
            await wire.aclose()

    async def _candidates_for(self, models: Sequence[str]) -> list[Candidate]:
        known = self._candidates
        for model in models:
            if model not in known:
                # Reading the price maps takes long enough to stall other tasks, so the first time is a thread's.
                await asyncio.to_thread(self._find, models)
        return [known[model] for model in models]

    def _find(self, models: Sequence[str]) -> None:
        with self._guard:
            for model in models:
                if model not in self._candidates:
                    self._candidates[model] = self._candidate(self._resolve(model))

    def _resolve(self, model: str) -> Route:
        config = self._config
        return resolve(
            model,
            provider=config.provider,
            wire=config.wire,
            settings=config.settings,
            api_key=config.api_key,
            base_url=config.base_url,
            catalogue=self._catalogue,
        )

    def _candidate(self, route: Route) -> Candidate:
        info = self._catalogue.find(route.provider, route.name)
        price, source = UNKNOWN_PRICE, cast("PriceSource", "estimate")
        if info is not None and info.price is not None:
            price, source = info.price, "override" if info.source == "override" else "map"
        return Candidate(route=route, wire=self._wire(route.wire), info=info, price=price, price_source=source)

    def _wire(self, name: WireName) -> Wire:
        if name not in self._wires:
            self._wires[name] = _open_wire(name)
        return self._wires[name]

    def _plan(self, kind: CallKind, options: CallOptions) -> CallPlan:
        return CallPlan(
            kind=kind,
            step=options.step,
            user_id=options.user_id,
            run_id=options.run_id,
            tags=options.tags,
            budgets=self._config.budgets,
            hold_seconds=options.timeout + _SETTLE_SECONDS,
        )

    def _refuse_unknown_prices(self, candidates: Sequence[Candidate]) -> None:
        unknown = [candidate.route.asked for candidate in candidates if candidate.price_source == "estimate"]
        if unknown and self._config.unknown_price == "block":
            raise ConfigurationError(
                f"nobody knows the price of {', '.join(unknown)}, so its budget could not hold. Give its price "
                "(LLMClient(prices={...})), or accept a ceiling with unknown_price='estimate' "
                "(LLM_COMMON_UNKNOWN_PRICE=estimate)"
            )


def _open_wire(name: WireName) -> Wire:
    # Each wire's libraries are loaded by the first call that needs them.
    if name == "direct":
        from llm_common.llm.providers.direct import DirectWire

        return DirectWire()
    from llm_common.llm.providers.litellm_wire import LiteLLMWire

    return LiteLLMWire()


async def _fitting(question: Question, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates whose window holds the prompt. Raises `ContextWindowError` where none does."""
    bound = question.prompt_bound
    if all(candidate.window is None or bound <= candidate.window for candidate in candidates):
        return list(candidates)
    # The cheap bound is several times the truth, so only a prompt that it cannot clear is counted.
    tokens = await asyncio.to_thread(count, question.messages, question.tools)
    fitting = [candidate for candidate in candidates if candidate.window is None or tokens <= candidate.window]
    if not fitting:
        windows = ", ".join(f"{candidate.route.asked} takes {candidate.window:,}" for candidate in candidates)
        raise ContextWindowError(
            f"the prompt has about {tokens:,} tokens, and {windows}. Nothing was sent. "
            "Shorten it, split it, or choose a model with a larger window",
            provider=candidates[0].route.provider,
            model=candidates[0].route.asked,
        )
    return fitting
