"""`LLMClient`: any model, through one door.

One call: resolve the models → leave out what cannot fit or is known to be down → reserve the worst case → send under
one deadline → judge → retry or ask the next model → price → settle.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from llm_common.exceptions import AllModelsFailed, BudgetExceededError, ConfigurationError, InvalidInputError, LLMError
from llm_common.ledger.protocol import Ledger
from llm_common.llm.batch import ManyResult, OnResult, Request, ask_all
from llm_common.llm.hooks import Hooks
from llm_common.llm.limits.rules import Limits
from llm_common.llm.sync import BlockingClient, blocking, blocking_stream
from llm_common.models import Budget, Completion, DefaultTemperature, Embeddings
from llm_common.money import to_usd
from llm_common.settings import Settings, UnknownPricePolicy

if TYPE_CHECKING:
    from instructor import AsyncInstructor

    from llm_common.cost_tracker import CostTracker

    # What these import is loaded by the first call: making a client costs next to nothing.
    from llm_common.llm.breaker import Breakers
    from llm_common.llm.cached_completion import CachedCompleting
    from llm_common.llm.call_factory import CallFactory
    from llm_common.llm.catalogue.model_info import ModelInfo
    from llm_common.llm.limits.rules import Limiter
    from llm_common.llm.pricing import Price
    from llm_common.llm.profile import Profile
    from llm_common.llm.retrying import RetryPolicy
    from llm_common.llm.stored_answer import ResponseCache
    from llm_common.llm.streaming import CompletionStream
    from llm_common.llm.wire import WireName
    from llm_common.profiles import Profiles

__all__ = [
    "AllModelsFailed",
    "BudgetExceededError",
    "Embeddings",
    "Hooks",
    "LLMClient",
    "LLMError",
    "Limits",
    "ManyResult",
    "Request",
    "SyncLLMClient",
]

_log = logging.getLogger(__name__)
_TEMPERATURE = DefaultTemperature(0.7)
T = TypeVar("T")
Messages = str | Sequence[Mapping[str, Any]]


class LLMClient:
    """Calls models, and pays for each call through a ledger.

    >>> async with LLMClient() as llm:
    ...     print(await llm.chat("What is a bill?", "openai/gpt-4o-mini"))

    `provider` is where a bare model name goes; None lets the name and the keys that are set decide. `api_key` and
    `base_url` default to the environment's (`OPENAI_API_KEY`, `OPENAI_BASE_URL`, ...). `budget_limit_usd` is a
    limit per UTC day. `cost_tracker` is the ledger; without one calls are recorded through `DATABASE_URL`, and
    where that is not set the budget holds within this process and one warning says that nothing is recorded.
    `timeout` (seconds) is for a whole call, retries and fallbacks included. `prices` tells or overrides what a
    model costs (`Price`), or all that is known of it (`ModelInfo`). `hooks` hear of each call. `limits` are by
    provider or by model: `{"zai": Limits(concurrency=4)}`. Requests wait for them until the deadline; `limiter`
    keeps their counters, in this client or with `SharedLimits(db)` in Postgres. `response_cache`
    (`llm_common.response_cache`) answers questions of `complete` and `chat` that were asked before. `profiles` are
    what a call's `profile=` chooses from; default: `Profiles()`, read when the first call wants one. Raises
    `ConfigurationError` for settings that cannot be right.

    One client serves many tasks, several event loops in turn, and threads.
    """

    def __init__(
        self,
        provider: str | None = None,
        api_key: str | None = None,
        budget_limit_usd: Decimal | float | str | None = None,
        *,
        base_url: str | None = None,
        cost_tracker: Ledger | None = None,
        project: str | None = None,
        model: str | None = None,
        timeout: float = 120.0,
        wire: "WireName | None" = None,
        prices: "Mapping[str, Price | ModelInfo] | None" = None,
        unknown_price: UnknownPricePolicy | None = None,
        retry: "RetryPolicy | None" = None,
        breakers: "Breakers | None" = None,
        settings: Settings | None = None,
        hooks: Hooks | None = None,
        limits: Mapping[str, Limits] | None = None,
        limiter: "Limiter | None" = None,
        response_cache: "ResponseCache | None" = None,
        profiles: "Profiles | None" = None,
    ) -> None:
        self._settings = settings or Settings.from_environment()
        if not timeout > 0:
            raise InvalidInputError(f"timeout must be more than 0 seconds, got {timeout!r}")
        self._provider, self._api_key, self._base_url = provider, api_key, base_url
        self._model = model or self._settings.model
        self._timeout = timeout
        self._wire: WireName | None = wire
        self._prices, self._retry, self._breakers = prices or {}, retry, breakers
        self._unknown_price: UnknownPricePolicy = unknown_price or self._settings.unknown_price
        self._limit = None if budget_limit_usd is None else Budget(_dollars(budget_limit_usd))
        self._ledger = cost_tracker
        self._own_ledger: CostTracker | None = None
        # A ledger that has a project of its own says whose the answers are.
        self._project = project or getattr(cost_tracker, "project", None) or self._settings.project
        self._response_cache = response_cache
        self._cached: CachedCompleting | None = None
        self._hooks, self._limits, self._limiter, self._profiles = hooks, limits or {}, limiter, profiles
        self._calls: CallFactory | None = None

    # ── the short forms that hosts know ──────────────────────────────────────────────────────────────────────────

    @overload
    async def chat(
        self,
        messages: Messages,
        model: str | None = None,
        response_model: None = None,
        temperature: float | None = _TEMPERATURE,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> str: ...

    @overload
    async def chat(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        response_model: type[T],
        temperature: float | None = _TEMPERATURE,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> T: ...

    @overload
    async def chat(
        self,
        messages: Messages,
        model: str | None,
        response_model: type[T],
        temperature: float | None = _TEMPERATURE,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> T: ...

    async def chat(
        self,
        messages: Messages,
        model: str | None = None,
        response_model: type[Any] | None = None,
        temperature: float | None = _TEMPERATURE,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """The answer's text, or the instance of `response_model`. `kwargs` are those of `complete`."""
        completion = await self.complete(
            messages,
            model,
            response_model=response_model,
            temperature=temperature,
            max_tokens=max_tokens,
            **kwargs,
        )
        return completion.text if response_model is None else completion.parsed

    async def chat_with_fallback(
        self,
        messages: Messages,
        models: Sequence[str],
        response_model: type[Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Like `chat`, asking each of `models` in turn. Raises `AllModelsFailed` with every attempt."""
        kwargs.setdefault("temperature", _TEMPERATURE)
        completion = await self.complete(messages, models=models, response_model=response_model, **kwargs)
        return completion.text if response_model is None else completion.parsed

    # ── the full forms ───────────────────────────────────────────────────────────────────────────────────────────

    @overload
    async def complete(
        self, messages: Messages, model: str | None = None, *, response_model: None = None, **kwargs: Any
    ) -> Completion[None]: ...

    @overload
    async def complete(
        self, messages: Messages, model: str | None = None, *, response_model: type[T], **kwargs: Any
    ) -> Completion[T]: ...

    @overload
    async def complete(
        self, messages: Messages, model: str | None = None, *, response_model: type[T] | None, **kwargs: Any
    ) -> Completion[Any]: ...

    async def complete(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        models: Sequence[str] = (),
        profile: "str | Profile | None" = None,
        response_model: type[Any] | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        tool_choice: str | Mapping[str, Any] | None = None,
        timeout: float | None = None,
        step: str | None = None,
        user_id: str | None = None,
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        ledger: Ledger | None = None,
        fallback_on_content_policy: bool = False,
        hedge_after: float | None = None,
        cache: bool | None = None,
        **extra: Any,
    ) -> Completion[Any]:
        """One answer with its usage, cost and attempts.

        `model`, or the fallback chain `models`, or that of `profile`, or the client's own model. What the call says
        wins over its profile, and the profile over the client. `response_model` is any type that Pydantic
        validates; the instance is in `.parsed`. `step`, `user_id`, `run_id` and `tags` go to the ledger. `ledger` pays
        for this call instead of the client's own. `fallback_on_content_policy` asks the next of `models` also where the
        safety rules of one refuse. `hedge_after`: where no answer came within so many seconds, the next of `models` (or
        the only one, again) is asked as well; the first good answer wins, both are paid. `cache=False` keeps the call
        out of the client's `response_cache`. Unknown keyword arguments go to the provider as they are.

        Raises `BudgetExceededError` before anything is sent, otherwise the `LLMError` that fits, with `.attempts` and
        `.cost_usd`; `AllModelsFailed` where a chain of several failed.
        """
        calls, chosen = self._factory(), self._profile(profile)
        question = calls.question(
            messages,
            profile=chosen,
            response_model=response_model,
            temperature=temperature,
            max_tokens=max_tokens,
            tools=tools,
            tool_choice=tool_choice,
            extra=extra,
        )
        options = calls.options(
            model,
            models,
            timeout,
            chosen,
            step=step,
            user_id=user_id,
            run_id=run_id,
            tags=tags,
            fallback_on_content_policy=fallback_on_content_policy,
            hedge_after=hedge_after,
        )
        payer = ledger or self.ledger
        if cached := self._caching(cache):
            return await cached.completion_of(await calls.make(question, options, payer), options, payer)
        return await calls.complete(question, options, payer)

    async def complete_many(
        self,
        items: "Iterable[Request | Messages]",
        model: str | None = None,
        *,
        concurrency: int = 8,
        on_result: "OnResult | None" = None,
        **arguments: Any,
    ) -> list[ManyResult]:
        """One `ManyResult` for each prompt, list of messages or `Request`, in their order.

        At most `concurrency` calls are in flight. `model` and `arguments` are those of `complete` and hold for every
        item; a `Request` brings its own on top. What one item raises is in its result and stops none of the others.
        `on_result(result, done, total)`, plain or async, hears of each as it comes; what it raises is logged.
        Cancelling cancels every call in flight, and each is settled.
        """
        shared = {**arguments, "model": model}
        return await ask_all(items, self.complete, shared, concurrency=concurrency, on_result=on_result)

    async def embed(
        self,
        texts: str | Iterable[str],
        model: str,
        *,
        dimensions: int | None = None,
        batch_size: int | None = None,
        concurrency: int = 4,
        timeout: float | None = None,
        ledger: Ledger | None = None,
        step: str | None = None,
        user_id: str | None = None,
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> Embeddings:
        """One vector for each text, in their order: `.vectors`, or `.vector` of a single text.

            await llm.embed(["a bill", "a law"], "openai/text-embedding-3-small")

        Sent in requests of at most `batch_size` texts (default: the provider's limit, 2,048 at OpenAI) and 300,000
        tokens, `concurrency` of them at a time. The worst case of all is reserved before the first. There is no
        fallback: vectors of different models cannot be compared. `dimensions` shortens them, where the model can.

        Raises like `complete`, and `InvalidInputError` for no texts or a blank one. When a request fails for good, no
        further one is sent, and the error's `cost_usd` and `attempts` are those of all of them.
        """
        from llm_common.llm.embedding import embeddings_of
        from llm_common.llm.embedding_batches import EmbeddingOrder, checked_texts

        order = EmbeddingOrder(
            texts=checked_texts(texts),
            dimensions=dimensions,
            batch_size=batch_size,
            concurrency=concurrency,
            extra=extra,
        )
        calls = self._factory()
        options = calls.options(
            model,
            (),
            timeout,
            None,
            step=step,
            user_id=user_id,
            run_id=run_id,
            tags=tags,
        )
        return await embeddings_of(await calls.make_embedding(order, options, ledger or self.ledger))

    async def check(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        models: Sequence[str] = (),
        profile: "str | Profile | None" = None,
        ledger: Ledger | None = None,
    ) -> None:
        """Raise what `complete` would raise before it sends anything: unknown model, missing key, prompt too long.

        No budget is used, and nothing is reserved. For work that writes down that it begins. `ledger` is the one that
        will pay, where it is not the client's own.
        """
        calls = self._factory()
        options = calls.options(model, models, None, self._profile(profile))
        await calls.make(calls.question(messages), options, ledger or self.ledger)

    async def model_info(self, model: str) -> "ModelInfo | None":
        """Window, price and abilities of a model, None where no map knows it.

        Raises what `complete` would raise for an unknown provider or a missing key.
        """
        return await self._factory().info(model)

    @overload
    def stream(
        self, messages: Messages, model: str | None = None, *, response_model: None = None, **kwargs: Any
    ) -> "CompletionStream[None]": ...

    @overload
    def stream(
        self, messages: Messages, model: str | None = None, *, response_model: type[T], **kwargs: Any
    ) -> "CompletionStream[T]": ...

    @overload
    def stream(
        self, messages: Messages, model: str | None = None, *, response_model: Any, **kwargs: Any
    ) -> "CompletionStream[Any]": ...

    def stream(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        models: Sequence[str] = (),
        profile: "str | Profile | None" = None,
        response_model: Any = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        tool_choice: str | Mapping[str, Any] | None = None,
        timeout: float | None = None,
        first_token_timeout: float | None = None,
        stall_timeout: float | None = None,
        step: str | None = None,
        user_id: str | None = None,
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        ledger: Ledger | None = None,
        fallback_on_content_policy: bool = False,
        **extra: Any,
    ) -> "CompletionStream[Any]":
        """The answer piece by piece: `async with llm.stream(...) as stream: async for delta in stream: ...`.

        `first_token_timeout` and `stall_timeout` (seconds) bound the wait for the first piece and between two. Falls
        back to the next of `models` until the first piece was handed out, then raises `StreamInterruptedError`.
        With a `response_model`, `delta.partial` is the object so far, not validated, and `stream.completion.parsed`
        the instance at the end, or `StructuredOutputError` where it does not fit.
        """
        calls, chosen = self._factory(), self._profile(profile)
        question = calls.question(
            messages,
            profile=chosen,
            response_model=response_model,
            temperature=temperature,
            max_tokens=max_tokens,
            tools=tools,
            tool_choice=tool_choice,
            extra=extra,
        )
        options = calls.options(
            model,
            models,
            timeout,
            chosen,
            step=step,
            user_id=user_id,
            run_id=run_id,
            tags=tags,
            fallback_on_content_policy=fallback_on_content_policy,
        )
        return calls.stream(
            question,
            options,
            ledger or self.ledger,
            chosen,
            first_token_timeout=first_token_timeout,
            stall_timeout=stall_timeout,
        )

    @property
    def instructor_client(self) -> "AsyncInstructor":
        """instructor's async client over this one: each of its requests is retried, budgeted and recorded by us.

        Needs `pip install llm-common[instructor]`. It asks in `Mode.TOOLS`; for another one (`Mode.JSON` for z.ai)
        use `llm_common.llm.instructor_client.instructor_client(llm, mode)`.
        """
        from llm_common.llm.instructor_client import instructor_client

        return instructor_client(self)

    # ── money and health ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def ledger(self) -> Ledger:
        """Who pays: the `cost_tracker`, or one for `DATABASE_URL`, or one that only counts within this process."""
        if self._ledger is None:
            self._ledger = self._default_ledger()
        return self._ledger

    def _default_ledger(self) -> Ledger:
        if self._settings.database_url is not None:
            from llm_common.cost_tracker import CostTracker

            self._own_ledger = CostTracker(self._settings.database_url, project=self._project)
            return self._own_ledger
        from llm_common.ledger.local import LocalLedger

        _log.warning("no cost_tracker and no DATABASE_URL: budgets hold in this process only, and nothing is recorded")
        return LocalLedger()

    @property
    def daily_cost(self) -> Decimal:
        """US dollars that the project spent today (UTC), as of this client's last call."""
        return to_usd(self.ledger.spent_today_nano)

    @property
    def budget_limit(self) -> Decimal | None:
        """`budget_limit_usd`: US dollars per UTC day, None for no limit."""
        return self._limit.limit_usd if self._limit else None

    def health(self) -> dict[str, str]:
        """`"place model"` → `closed`, `open` or `half-open`, for the models that failed lately."""
        return {" ".join(key): state for key, state in self._factory().breakers.health().items()}

    def sync(self) -> "SyncLLMClient":
        """This client for code without asyncio: `with LLMClient().sync() as llm: llm.chat(...)`."""
        return SyncLLMClient(self)

    async def aclose(self) -> None:
        """Close the connections of the running event loop. The client can be used again afterwards."""
        if self._cached is not None:
            await self._cached.aclose()
        if self._calls is not None:
            await self._calls.aclose()
        if self._own_ledger is not None:
            await self._own_ledger.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _caching(self, wanted: bool | None) -> "CachedCompleting | None":  # noqa: FBT001 (the caller's argument)
        if self._response_cache is None and wanted:
            raise ConfigurationError("cache=True needs a client with a cache: LLMClient(response_cache=...)")
        if self._response_cache is None or wanted is False:
            return None
        if self._cached is None:
            from llm_common.llm.cached_completion import CachedCompleting

            self._cached = CachedCompleting(self._response_cache, self._project)
        return self._cached

    def _factory(self) -> "CallFactory":
        if self._calls is None:
            from llm_common.llm.breaker import process_breakers
            from llm_common.llm.call_factory import CallFactory, ClientConfig
            from llm_common.llm.retrying import RetryPolicy

            self._calls = CallFactory(
                ClientConfig(
                    settings=self._settings,
                    provider=self._provider,
                    api_key=self._api_key,
                    base_url=self._base_url,
                    wire=self._wire,
                    prices=self._prices,
                    unknown_price=self._unknown_price,
                    budgets=() if self._limit is None else (self._limit,),
                    policy=self._retry or RetryPolicy(),
                    breakers=self._breakers or process_breakers,
                    model=self._model,
                    timeout=self._timeout,
                    hooks=self._hooks,
                    limits=self._limits,
                    limiter=self._limiter,
                )
            )
        return self._calls

    @property
    def profiles(self) -> "Profiles":
        """What `profile=` chooses from: `profiles.reload()` reads it again."""
        if self._profiles is None:
            from llm_common.profiles import Profiles

            self._profiles = Profiles()
        return self._profiles

    def _profile(self, chosen: "str | Profile | None") -> "Profile | None":
        return self.profiles.get(chosen) if isinstance(chosen, str) else chosen


class SyncLLMClient(BlockingClient[LLMClient]):
    """`LLMClient` for code without asyncio: the same methods with the same arguments, and they wait.

        with LLMClient().sync() as llm:
            print(llm.chat("What is a bill?", "openai/gpt-4o-mini"))

    Safe from many threads, and in a thread whose own event loop runs (which then waits). The calls run on an event
    loop in a thread of its own, which starts with the first call and ends with `close()` or with the interpreter.
    """

    chat = blocking(LLMClient.chat)
    chat_with_fallback = blocking(LLMClient.chat_with_fallback)
    complete = blocking(LLMClient.complete)
    complete_many = blocking(LLMClient.complete_many)
    embed = blocking(LLMClient.embed)
    check = blocking(LLMClient.check)
    model_info = blocking(LLMClient.model_info)
    stream = blocking_stream(LLMClient.stream)


def _dollars(amount: Decimal | float | str) -> Decimal:
    return amount if isinstance(amount, Decimal) else Decimal(str(amount))
