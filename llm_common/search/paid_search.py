"""One paid request to a provider: reserved, sent, asked again where that helps, settled."""

import asyncio
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from llm_common._runtime.retry import RetryPolicy
from llm_common.exceptions import SearchError
from llm_common.ledger.paid_call import PaidCall
from llm_common.ledger.protocol import Ledger
from llm_common.models import CallStatus, Outcome, PlannedCall, PriceSource
from llm_common.search.counters import Figure
from llm_common.search.providers.protocol import ProviderAnswer, SearchProvider
from llm_common.search.query import SearchRequest
from llm_common.search.retry import may_be_charged, wait_before_retry

__all__ = ["PaidSearch", "Payer", "PayerNames"]

#: A reservation must outlast its search: settling may wait for a busy database.
_HOLD_MARGIN = 60.0


class PayerNames(TypedDict, total=False):
    """Who pays for a search: another ledger than the client's, and the names under which it stands there."""

    ledger: Ledger | None
    step: str | None
    user_id: str | None
    run_id: str | None


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose ledger a search goes to, and under which names."""

    ledger: Ledger
    step: str | None = None
    user_id: str | None = None
    run_id: str | None = None


@dataclass(slots=True)
class _Bill:
    """What one search was charged so far; each request is charged until it is known to be free."""

    paid: PaidCall
    charged_nano: int = 0
    attempts: int = 0
    status: CallStatus = "cancelled"


class PaidSearch:
    """`price_nano` is charged per request. `count` receives what was spent."""

    def __init__(
        self,
        provider: SearchProvider,
        *,
        price_nano: int,
        price_source: PriceSource,
        policy: RetryPolicy,
        count: Callable[[dict[Figure, int]], None],
    ) -> None:
        self._provider = provider
        self._price_nano = price_nano
        self._price_source: PriceSource = price_source
        self._policy = policy
        self._count = count

    @property
    def model(self) -> str:
        """What the ledger calls what is asked: `zai/search-prime`."""
        return f"{self._provider.name}/{self._provider.engine}"

    async def ask(self, request: SearchRequest, payer: Payer, *, deadline: float) -> ProviderAnswer:
        """Raises `SearchError` when no attempt gave an answer, `BudgetExceededError` when none may be paid.

        `deadline` is in the loop's time.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        bill = await self._open(payer, deadline - started)
        try:
            while True:
                try:
                    answer = await self._attempt(request, bill, deadline)
                except SearchError as error:
                    bill.status = "failed"
                    wait = wait_before_retry(
                        error,
                        attempt=bill.attempts,
                        seconds_left=deadline - loop.time(),
                        policy=self._policy,
                        jitter=random.random,
                    )
                    if wait is None:
                        raise
                    await asyncio.sleep(wait)
                else:
                    bill.status = "ok"
                    return answer
        finally:
            await self._close(bill, loop.time() - started)

    async def _open(self, payer: Payer, seconds: float) -> _Bill:
        call = PlannedCall(
            kind="search",
            model=self.model,
            provider=self._provider.name,
            bound_nano=self._price_nano,
            step=payer.step,
            user_id=payer.user_id,
            run_id=payer.run_id,
            idempotency_key=uuid.uuid4().hex,
            hold_seconds=seconds + _HOLD_MARGIN,
        )
        paid = PaidCall(payer.ledger)
        await paid.reserve(call)
        return _Bill(paid)

    async def _attempt(self, request: SearchRequest, bill: _Bill, deadline: float) -> ProviderAnswer:
        if bill.charged_nano + self._price_nano > bill.paid.reserved_nano:
            await bill.paid.extend(self._price_nano)
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise SearchError(f"no time was left to ask {self._provider.name}; raise the timeout", code="deadline")
        bill.attempts += 1
        bill.charged_nano += self._price_nano
        bill.status = "cancelled"
        try:
            async with asyncio.timeout(left):
                return await self._provider.search(request, timeout=left)
        except TimeoutError as error:
            raise SearchError(
                f"{self._provider.name} gave no answer within {left:.1f} s",
                provider=self._provider.name,
                retryable=True,
            ) from error
        except SearchError as error:
            if not may_be_charged(error):
                bill.charged_nano -= self._price_nano
            raise

    async def _close(self, bill: _Bill, seconds: float) -> None:
        self._count({"upstream_requests": bill.attempts, "spent_nano": bill.charged_nano})
        if bill.charged_nano == 0 and bill.status != "ok":
            await bill.paid.release()
        else:
            await bill.paid.settle(self._outcome(bill, seconds))

    def _outcome(self, bill: _Bill, seconds: float) -> Outcome:
        known = bill.charged_nano <= self._price_nano and bill.status == "ok"
        return Outcome(
            model=self.model,
            provider=self._provider.name,
            cost_nano=bill.charged_nano,
            # Whether a failed request is billed, nobody says.
            price_source=self._price_source if known else "estimate",
            status=bill.status,
            answered_by=self.model,
            seconds=seconds,
            attempts=bill.attempts,
        )
