"""What a client is made with, what it opens with its first call, and how it is closed."""

from collections.abc import Mapping
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from llm_common.exceptions import InvalidInputError
from llm_common.ledger.protocol import Ledger
from llm_common.llm.hooks import Hooks
from llm_common.llm.limits.rules import Limits
from llm_common.models import Budget
from llm_common.settings import Settings, UnknownPricePolicy

if TYPE_CHECKING:
    # What these import is loaded by the first call: making a client costs next to nothing.
    from llm_common.llm.breaker import Breakers
    from llm_common.llm.call_factory import CallFactory
    from llm_common.llm.catalogue.model_info import ModelInfo
    from llm_common.llm.limits.rules import Limiter
    from llm_common.llm.pricing import Price
    from llm_common.llm.profile import ProfileSource
    from llm_common.llm.retrying import RetryPolicy
    from llm_common.llm.stored_answer import ResponseCache
    from llm_common.llm.wire import WireName

__all__ = ["ConfiguredClient"]


class _Closable(Protocol):
    async def aclose(self) -> None: ...


class ConfiguredClient:
    """The settings of an `LLMClient`, which says what each is. Opens nothing before the first call."""

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
        profiles: "ProfileSource | None" = None,
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
        self._ledger: Ledger | None = cost_tracker
        self._own_ledger: _Closable | None = None
        # A ledger that has a project of its own says whose the answers are.
        self._project = project or getattr(cost_tracker, "project", None) or self._settings.project
        self._response_cache = response_cache
        self._hooks, self._limits, self._limiter = hooks, limits or {}, limiter
        self._profiles: ProfileSource | None = profiles
        self._calls: CallFactory | None = None

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
                    response_cache=self._response_cache,
                    project=self._project,
                )
            )
        return self._calls


def _dollars(amount: Decimal | float | str) -> Decimal:
    return amount if isinstance(amount, Decimal) else Decimal(str(amount))
