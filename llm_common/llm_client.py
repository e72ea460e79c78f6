"""`LLMClient`: any model, through one door.

One call: resolve the models → leave out what cannot fit or is known to be down → reserve the worst case → send under
one deadline → judge → retry or ask the next model → price → settle.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from llm_common.exceptions import AllModelsFailed, BudgetExceededError, LLMError
from llm_common.ledger.protocol import Ledger
from llm_common.llm.batch import ManyResult, OnResult, Request, ask_all
from llm_common.llm.configured_client import ConfiguredClient
from llm_common.llm.hooks import Hooks
from llm_common.llm.limits.rules import Limits
from llm_common.llm.sync import BlockingClient, blocking, blocking_stream
from llm_common.models import Completion, DefaultTemperature, Embeddings
from llm_common.money import to_usd

if TYPE_CHECKING:
    from instructor import AsyncInstructor

    # What these import is loaded by the first call: making a client costs next to nothing.
    from llm_common.llm.arguments import ChatArguments, CompleteArguments, EmbedArguments, StreamArguments
    from llm_common.llm.catalogue.model_info import ModelInfo
    from llm_common.llm.profile import Profile, ProfileSource
    from llm_common.llm.streaming import CompletionStream

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


class LLMClient(ConfiguredClient):
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

    # ── the short forms that hosts know ──────────────────────────────────────────────────────────────────────────

    @overload
    async def chat(
        self,
        messages: Messages,
        model: str | None = None,
        response_model: None = None,
        temperature: float | None = _TEMPERATURE,
        max_tokens: int | None = None,
        **arguments: "Unpack[ChatArguments]",
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
        **arguments: "Unpack[ChatArguments]",
    ) -> T: ...

    @overload
    async def chat(
        self,
        messages: Messages,
        model: str | None,
        response_model: type[T],
        temperature: float | None = _TEMPERATURE,
        max_tokens: int | None = None,
        **arguments: "Unpack[ChatArguments]",
    ) -> T: ...

    async def chat(
        self,
        messages: Messages,
        model: str | None = None,
        response_model: type[Any] | None = None,
        temperature: float | None = _TEMPERATURE,
        max_tokens: int | None = None,
        **arguments: "Unpack[ChatArguments]",
    ) -> Any:
        """The answer's text, or the instance of `response_model`. `arguments` are those of `complete`."""
        completion = await self.complete(
            messages,
            model,
            response_model=response_model,
            temperature=temperature,
            max_tokens=max_tokens,
            **arguments,
        )
        return completion.text if response_model is None else completion.parsed

    async def chat_with_fallback(
        self,
        messages: Messages,
        models: Sequence[str],
        response_model: type[Any] | None = None,
        temperature: float | None = _TEMPERATURE,
        max_tokens: int | None = None,
        **arguments: "Unpack[ChatArguments]",
    ) -> Any:
        """Like `chat`, asking each of `models` in turn. Raises `AllModelsFailed` with every attempt."""
        completion = await self.complete(
            messages,
            response_model=response_model,
            models=models,
            temperature=temperature,
            max_tokens=max_tokens,
            **arguments,
        )
        return completion.text if response_model is None else completion.parsed

    # ── the full forms ───────────────────────────────────────────────────────────────────────────────────────────

    @overload
    async def complete(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        response_model: None = None,
        **arguments: "Unpack[CompleteArguments]",
    ) -> Completion[None]: ...

    @overload
    async def complete(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        response_model: type[T],
        **arguments: "Unpack[CompleteArguments]",
    ) -> Completion[T]: ...

    @overload
    async def complete(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        response_model: type[T] | None,
        **arguments: "Unpack[CompleteArguments]",
    ) -> Completion[Any]: ...

    async def complete(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        response_model: type[Any] | None = None,
        **arguments: "Unpack[CompleteArguments]",
    ) -> Completion[Any]:
        """One answer with its usage, cost and attempts.

        `model`, or the fallback chain `models`, or that of `profile`, or the client's own model. What the call says
        wins over its profile, and the profile over the client. `response_model` is any type that Pydantic validates;
        the instance is in `.parsed`. `tools` and `tool_choice` are in OpenAI's form. `timeout` (seconds) is for the
        whole call. `step`, `user_id`, `run_id` and `tags` go to the ledger. `ledger` pays for this call instead of the
        client's own. `fallback_on_content_policy` asks the next of `models` also where the safety rules of one refuse.
        `hedge_after`: where no answer came within so many seconds, the next of `models` (or the only one, again) is
        asked as well; the first good answer wins, both are paid. `cache=False` keeps the call out of the client's
        `response_cache`. `top_p`, `seed`, `stop` and their like go to the provider as they are, and so does whatever
        stands in `extra={...}`.

        Raises `BudgetExceededError` before anything is sent, otherwise the `LLMError` that fits, with `.attempts` and
        `.cost_usd`; `AllModelsFailed` where a chain of several failed; `UnknownArgumentError` for a name that is none.
        """
        calls, profile = self._factory(), self._profile(arguments.get("profile"))
        request = calls.request("complete", messages, model, response_model, arguments, profile)
        payer = arguments.get("ledger") or self.ledger
        execution = await calls.prepare(request, payer)
        if cached := calls.caching(arguments.get("cache")):
            return await cached.completion_of(execution, request.options, payer)
        return await calls.completion_of(execution)

    async def complete_many(
        self,
        items: "Iterable[Request | Messages]",
        model: str | None = None,
        *,
        response_model: type[Any] | None = None,
        concurrency: int = 8,
        on_result: "OnResult | None" = None,
        **arguments: "Unpack[CompleteArguments]",
    ) -> list[ManyResult]:
        """One `ManyResult` for each prompt, list of messages or `Request`, in their order.

        At most `concurrency` calls are in flight. `model` and `arguments` are those of `complete` and hold for every
        item; a `Request` brings its own on top. What one item raises is in its result and stops none of the others.
        `on_result(result, done, total)`, plain or async, hears of each as it comes; what it raises is logged.
        Cancelling cancels every call in flight, and each is settled.
        """
        shared = {**arguments, "model": model, "response_model": response_model}
        return await ask_all(items, self.complete, shared, concurrency=concurrency, on_result=on_result)

    async def embed(self, texts: str | Iterable[str], model: str, **arguments: "Unpack[EmbedArguments]") -> Embeddings:
        """One vector for each text, in their order: `.vectors`, or `.vector` of a single text.

            await llm.embed(["a bill", "a law"], "openai/text-embedding-3-small")

        Sent in requests of at most `batch_size` texts (default: the provider's limit, 2,048 at OpenAI) and 300,000
        tokens, `concurrency` (4) of them at a time. The worst case of all is reserved before the first. There is no
        fallback: vectors of different models cannot be compared. `dimensions` shortens them, where the model can.
        `timeout`, `ledger`, `step`, `user_id`, `run_id`, `tags` and `extra` are as in `complete`.

        Raises like `complete`, and `InvalidInputError` for no texts or a blank one. When a request fails for good, no
        further one is sent, and the error's `cost_usd` and `attempts` are those of all of them.
        """
        from llm_common.llm.embedding import embeddings_of

        calls = self._factory()
        order, options = calls.embedding_request(texts, model, arguments)
        return await embeddings_of(
            await calls.prepare_embedding(order, options, arguments.get("ledger") or self.ledger)
        )

    async def check(
        self, messages: Messages, model: str | None = None, **arguments: "Unpack[CompleteArguments]"
    ) -> None:
        """Raise what `complete` would raise before it sends anything: unknown model, missing key, prompt too long.

        No budget is used, and nothing is reserved. For work that writes down that it begins. `ledger` is the one that
        will pay, where it is not the client's own.
        """
        calls, profile = self._factory(), self._profile(arguments.get("profile"))
        request = calls.request("complete", messages, model, None, arguments, profile)
        await calls.prepare(request, arguments.get("ledger") or self.ledger)

    async def model_info(self, model: str) -> "ModelInfo | None":
        """Window, price and abilities of a model, None where no map knows it.

        Raises what `complete` would raise for an unknown provider or a missing key.
        """
        return await self._factory().info(model)

    async def host(self, model: str) -> str:
        """Who answers for a model: the host of its address, such as api.z.ai, or the provider where that is unknown.

        Raises like `model_info`.
        """
        return await self._factory().host(model)

    @overload
    def stream(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        response_model: None = None,
        **arguments: "Unpack[StreamArguments]",
    ) -> "CompletionStream[None]": ...

    @overload
    def stream(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        response_model: type[T],
        **arguments: "Unpack[StreamArguments]",
    ) -> "CompletionStream[T]": ...

    @overload
    def stream(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        response_model: Any,
        **arguments: "Unpack[StreamArguments]",
    ) -> "CompletionStream[Any]": ...

    def stream(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        response_model: Any = None,
        **arguments: "Unpack[StreamArguments]",
    ) -> "CompletionStream[Any]":
        """The answer piece by piece: `async with llm.stream(...) as stream: async for delta in stream: ...`.

        `arguments` are those of `complete`, without `hedge_after` and `cache`. `first_token_timeout` and
        `stall_timeout` (seconds) bound the wait for the first piece and between two. Falls back to the next of `models`
        until the first piece was handed out, then raises `StreamInterruptedError`. With a `response_model`,
        `delta.partial` is the object so far, not validated, and `stream.completion.parsed` the instance at the end, or
        `StructuredOutputError` where it does not fit.
        """
        calls, profile = self._factory(), self._profile(arguments.get("profile"))
        request = calls.request("stream", messages, model, response_model, arguments, profile)
        return calls.stream(request, arguments.get("ledger") or self.ledger, profile, arguments)

    @property
    def instructor_client(self) -> "AsyncInstructor":
        """instructor's async client over this one: each of its requests is retried, budgeted and recorded by us.

        Needs `pip install -e 'packages/llm-common[instructor]'`. It asks in `Mode.TOOLS`; for another one (`Mode.JSON`
        for z.ai) use `llm_common.llm.instructor_client.instructor_client(llm, mode)`.
        """
        from llm_common.llm.instructor_client import instructor_client

        return instructor_client(self)

    # ── money and profiles ───────────────────────────────────────────────────────────────────────────────────────

    @property
    def ledger(self) -> Ledger:
        """Who pays: the `cost_tracker`, or one for `DATABASE_URL`, or one that only counts within this process."""
        if self._ledger is None:
            self._ledger = self._default_ledger()
        return self._ledger

    def _default_ledger(self) -> Ledger:
        if self._settings.database_url is not None:
            from llm_common.cost_tracker import CostTracker

            self._own_ledger = tracker = CostTracker(self._settings.database_url, project=self._project)
            return tracker
        from llm_common.ledger.local import LocalLedger

        _log.warning("no cost_tracker and no DATABASE_URL: budgets hold in this process only, and nothing is recorded")
        return LocalLedger()

    @property
    def daily_cost(self) -> Decimal:
        """US dollars that the project spent today (UTC), as of this client's last call."""
        return to_usd(self.ledger.spent_today_nano)

    @property
    def profiles(self) -> "ProfileSource":
        """What `profile=` chooses from; of `Profiles`, `reload()` reads it again."""
        if self._profiles is None:
            from llm_common.profiles import Profiles

            self._profiles = Profiles()
        return self._profiles

    def _profile(self, chosen: "str | Profile | None") -> "Profile | None":
        return self.profiles.get(chosen) if isinstance(chosen, str) else chosen

    def sync(self) -> "SyncLLMClient":
        """This client for code without asyncio: `with LLMClient().sync() as llm: llm.chat(...)`."""
        return SyncLLMClient(self)


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
