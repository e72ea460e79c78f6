"""`LLMClient`: any model, through one door.

One call: resolve the models → leave out what cannot fit or is known to be down → reserve the worst case → send under
one deadline → judge → retry or ask the next model → price → settle.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from llm_common.exceptions import AllModelsFailed, BudgetExceededError, ConfigurationError, InvalidInputError, LLMError
from llm_common.ledger import Ledger
from llm_common.models import Budget, Completion
from llm_common.money import to_usd
from llm_common.settings import Settings, UnknownPricePolicy

if TYPE_CHECKING:
    from llm_common.cost_tracker import CostTracker

    # What these import is loaded by the first call: making a client costs next to nothing.
    from llm_common.llm.asking import Asking
    from llm_common.llm.breaker import Breakers
    from llm_common.llm.calls import CallFactory, CallOptions
    from llm_common.llm.candidates import Question
    from llm_common.llm.pricing import Price
    from llm_common.llm.retrying import RetryPolicy
    from llm_common.llm.streaming import CompletionStream
    from llm_common.llm.wire import WireName

__all__ = ["AllModelsFailed", "BudgetExceededError", "LLMClient", "LLMError"]

_log = logging.getLogger(__name__)
T = TypeVar("T")
Messages = str | Sequence[Mapping[str, Any]]


class LLMClient:
    """Calls models, and pays for each call through a ledger.

        async with LLMClient() as llm:
            print(await llm.chat("What is a bill?", "openai/gpt-4o-mini"))

    `provider` is where a bare model name goes; None lets the name and the keys that are set decide. `api_key`
    and `base_url` default to the environment's (`OPENAI_API_KEY`, `OPENAI_BASE_URL`, ...). `budget_limit_usd` is
    a limit per UTC day. `cost_tracker` is the ledger; without one calls are recorded through `DATABASE_URL`, and
    where that is not set the budget holds within this process and one warning says that nothing is recorded.
    `timeout` (seconds) is for a whole call, retries and fallbacks included. `prices` tells or overrides what a
    model costs. Raises `ConfigurationError` for settings that cannot be right.

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
        prices: "Mapping[str, Price] | None" = None,
        unknown_price: UnknownPricePolicy | None = None,
        retry: "RetryPolicy | None" = None,
        breakers: "Breakers | None" = None,
        settings: Settings | None = None,
    ) -> None:
        self._settings = settings or Settings.from_environment()
        self._provider, self._api_key, self._base_url = provider, api_key, base_url
        self._model = model or self._settings.model
        self._timeout = _positive(timeout, "timeout")
        self._wire: WireName | None = wire
        self._prices, self._retry, self._breakers = prices or {}, retry, breakers
        self._unknown_price: UnknownPricePolicy = unknown_price or self._settings.unknown_price
        self._limit = None if budget_limit_usd is None else Budget(_dollars(budget_limit_usd))
        self._ledger = cost_tracker
        self._own_ledger: CostTracker | None = None
        self._project = project or self._settings.project
        self._calls: CallFactory | None = None

    # ── the short forms that hosts know ──────────────────────────────────────────────────────────────────────────

    @overload
    async def chat(
        self,
        messages: Messages,
        model: str | None = None,
        response_model: None = None,
        temperature: float | None = 0.7,
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
        temperature: float | None = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> T: ...

    @overload
    async def chat(
        self,
        messages: Messages,
        model: str | None,
        response_model: type[T],
        temperature: float | None = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> T: ...

    async def chat(
        self,
        messages: Messages,
        model: str | None = None,
        response_model: type[Any] | None = None,
        temperature: float | None = 0.7,
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
        kwargs.setdefault("temperature", 0.7)
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
        **extra: Any,
    ) -> Completion[Any]:
        """One answer with its usage, cost and attempts.

        `model`, or the fallback chain `models`, or the client's own model. `response_model` is any type that Pydantic
        validates; the instance is in `.parsed`. `step`, `user_id`, `run_id` and `tags` go to the ledger. `ledger` pays
        for this call instead of the client's own. Unknown keyword arguments go to the provider as they are.

        Raises `BudgetExceededError` before anything is sent, otherwise the `LLMError` that fits, with `.attempts` and
        `.cost_usd`; `AllModelsFailed` where a chain of several failed.
        """
        question = _question(messages, response_model, temperature, max_tokens, tools, tool_choice, extra)
        options = self._options(model, models, timeout, step, user_id, run_id, tags)
        payer = ledger or self.ledger
        started = time.monotonic()
        asking = await self._factory().make(question, options, payer)
        account = asking.account
        try:
            answer = await asking.answer()
        except BaseException as error:
            status = "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
            await account.close(status, time.monotonic() - started)
            raise
        seconds = time.monotonic() - started
        await account.close("ok", seconds, answered_by=answer.wire.answered_by, answer=answer.wire.text)
        return Completion(
            text=answer.wire.text,
            parsed=answer.parsed,
            tool_calls=answer.wire.tool_calls,
            finish_reason=answer.wire.finish_reason,
            usage=account.usage,
            cost_usd=account.cost_usd,
            price_source=account.price_source,
            model=answer.candidate.route.asked,
            answered_by=answer.wire.answered_by,
            provider=answer.candidate.route.provider,
            attempts=account.attempts,
            seconds=seconds,
            request_id=answer.wire.request_id,
            raw=answer.wire.raw,
        )

    async def check(self, messages: Messages, model: str | None = None, *, models: Sequence[str] = ()) -> None:
        """Raise what `complete` would raise before it sends anything: unknown model, missing key, prompt too long.

        Budgets are not looked at, and nothing is reserved. For work that writes down that it begins.
        """
        question = _question(messages, None, None, None, (), None, {})
        await self._factory().make(question, self._options(model, models, None, None, None, None, None), self.ledger)

    def stream(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        models: Sequence[str] = (),
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
        **extra: Any,
    ) -> "CompletionStream":
        """The answer piece by piece: `async with llm.stream(...) as stream: async for delta in stream: ...`.

        `first_token_timeout` and `stall_timeout` (seconds) bound the wait for the first piece and between two. Falls
        back to the next of `models` until the first piece was handed out, then raises `StreamInterruptedError`.
        """
        from llm_common.llm.streaming import CompletionStream, Patience

        question = _question(messages, None, temperature, max_tokens, tools, tool_choice, extra)
        options = self._options(model, models, timeout, step, user_id, run_id, tags)

        async def prepare() -> "Asking":
            return await self._factory().make(question, options, ledger or self.ledger)

        return CompletionStream(prepare, Patience(first_token_timeout, stall_timeout))

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
        from llm_common.local_ledger import LocalLedger

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

    async def aclose(self) -> None:
        """Close the connections of the running event loop. The client can be used again afterwards."""
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

    def _factory(self) -> "CallFactory":
        if self._calls is None:
            from llm_common.llm.breaker import process_breakers
            from llm_common.llm.calls import CallFactory, ClientConfig
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
                )
            )
        return self._calls

    def _options(
        self,
        model: str | None,
        models: Sequence[str],
        timeout: float | None,
        step: str | None,
        user_id: str | None,
        run_id: str | None,
        tags: Mapping[str, str] | None,
    ) -> "CallOptions":
        from llm_common.llm.calls import CallOptions

        if model is not None and models:
            raise InvalidInputError("give model= or models=, not both")
        if isinstance(models, str):
            raise InvalidInputError(f"models must be a list of names; for one model use model={models!r}")
        chain = tuple(models) or tuple(filter(None, (model or self._model,)))
        if not chain:
            raise ConfigurationError("no model: name one in the call, in LLMClient(model=...), or set LLM_COMMON_MODEL")
        return CallOptions(
            models=chain,
            timeout=self._timeout if timeout is None else _positive(timeout, "timeout"),
            step=step,
            user_id=user_id,
            run_id=run_id,
            tags=tags or {},
        )


def _question(
    messages: Messages,
    response_model: type[Any] | None,
    temperature: float | None,
    max_tokens: int | None,
    tools: Sequence[Mapping[str, Any]],
    tool_choice: str | Mapping[str, Any] | None,
    extra: Mapping[str, Any],
) -> "Question":
    from llm_common.llm.calls import checked_messages
    from llm_common.llm.candidates import Question
    from llm_common.llm.structured import output_spec

    if max_tokens is not None and max_tokens < 1:
        raise InvalidInputError(f"max_tokens must be at least 1, got {max_tokens}")
    return Question(
        messages=checked_messages(messages),
        output=None if response_model is None else output_spec(response_model),
        temperature=temperature,
        max_tokens=max_tokens,
        tools=tuple(tools),
        tool_choice=tool_choice,
        extra=extra,
    )


def _dollars(amount: Decimal | float | str) -> Decimal:
    return amount if isinstance(amount, Decimal) else Decimal(str(amount))


def _positive(seconds: float, name: str) -> float:
    if not seconds > 0:
        raise InvalidInputError(f"{name} must be more than 0 seconds, got {seconds!r}")
    return seconds
