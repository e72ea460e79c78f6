"""The money of one call: what its attempts were charged, and what is set aside for those in flight."""

import asyncio
from decimal import Decimal
from functools import reduce
from operator import add

from llm_common.exceptions import LLMError
from llm_common.ledger.paid_call import PaidCall
from llm_common.ledger.protocol import Ledger, budgets_that_bind
from llm_common.llm.candidates import CallPlan, Candidate, Charge
from llm_common.models import CallStatus, Outcome, PriceSource
from llm_common.money import to_usd
from llm_common.usage import Attempt, Usage

__all__ = ["Account"]

#: Best first: a sum is known only as well as the worst of its parts.
_CERTAINTY: tuple[PriceSource, ...] = ("provider", "override", "map", "estimate")


class Account:
    """One call's reservation, and what its attempts were charged.

    Belongs to one call on one event loop; several requests of it may be in flight at a time.
    """

    def __init__(self, ledger: Ledger, plan: CallPlan) -> None:
        self._ledger = ledger
        self._plan = plan
        self._paid = PaidCall(ledger)
        #: What the requests may cost that are in flight: covered, and not noted yet.
        self._in_flight_nano = 0
        self._covering = asyncio.Lock()
        self._charges: list[Charge] = []
        self._attempts: list[Attempt] = []
        self._asked: set[str] = set()
        # In whose name the row is written: the last model that answered or was charged.
        self._payee = ("", "")

    @property
    def spent_nano(self) -> int:
        return sum(charge.nano for charge in self._charges)

    @property
    def in_flight_nano(self) -> int:
        """What the requests may cost that are in flight."""
        return self._in_flight_nano

    @property
    def cost_usd(self) -> Decimal:
        return to_usd(self.spent_nano)

    @property
    def usage(self) -> Usage:
        return reduce(add, [charge.usage for charge in self._charges]) if self._charges else Usage()

    @property
    def price_source(self) -> PriceSource:
        paid = [charge.source for charge in self._charges if charge.nano] or [c.source for c in self._charges]
        for source in reversed(_CERTAINTY):
            if source in paid:
                return source
        return "map"

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        return tuple(self._attempts)

    async def cover(self, candidate: Candidate, bound_nano: int) -> None:
        """Have enough set aside for one more request, also by the budgets of the model that it goes to.

        Beside it stands what was charged, and what the requests may cost that are still in flight. `note` ends it.
        Raises `BudgetExceededError`: then nothing may be sent.
        """
        # One after the other: a second request must see what the first had set aside.
        async with self._covering:
            model, provider = candidate.route.asked, candidate.route.provider
            if not self._paid.is_open:
                self._payee = (model, provider)
                await self._paid.reserve(self._plan.for_candidate(candidate, bound_nano))
                self._asked = {model}
            missing = max(0, self.spent_nano + self._in_flight_nano + bound_nano - self._paid.reserved_nano)
            if missing or self._is_new_to_a_budget(candidate):
                await self._paid.extend(missing, model=model, provider=provider)
                self._asked.add(model)
            self._in_flight_nano += bound_nano

    def _is_new_to_a_budget(self, candidate: Candidate) -> bool:
        """Whether a budget of this model's has yet to hear of the call."""
        model = candidate.route.asked
        if model in self._asked:
            return False
        limits = budgets_that_bind(self._plan.for_candidate(candidate, 0), self._ledger.budgets)
        return any(scope == f"model:{model}" for scope, _ in limits)

    def note(
        self, candidate: Candidate, charge: Charge, error: BaseException | None, seconds: float, *, covered: int
    ) -> None:
        """Write down one attempt: what it cost, and how it failed if it did. `covered` is what was set aside for it."""
        self._in_flight_nano -= covered
        if error is None or charge.nano:
            self._payee = (candidate.route.asked, candidate.route.provider)
        self._charges.append(charge)
        self._attempts.append(
            Attempt(
                model=candidate.route.asked,
                provider=candidate.route.provider,
                error=None if error is None else f"{type(error).__name__}: {error}",
                status=error.status if isinstance(error, LLMError) else None,
                seconds=seconds,
                cost_usd=to_usd(charge.nano),
            )
        )

    def answered_by(self, candidate: Candidate) -> None:
        """Of several that were asked at once, the row is written in the name of the one that answered."""
        self._payee = (candidate.route.asked, candidate.route.provider)

    async def close(
        self, status: CallStatus, seconds: float, *, answered_by: str | None = None, answer: str | None = None
    ) -> None:
        """Settle the truth, or give the reserve back if nothing was charged. Finishes also when cancelled."""
        if status != "ok" and self.spent_nano == 0:
            await self._paid.release()
        elif self._paid.is_open:
            await self._paid.settle(self._outcome(status, seconds, answered_by, answer))

    @property
    def _listed_nano(self) -> int | None:
        """What the list says of all that was charged; None where part of it is another model's, or has no list."""
        listed = [charge.listed_nano for charge in self._charges if charge.nano]
        return sum(filter(None, listed)) if listed and None not in listed and len(self._asked) == 1 else None

    def _outcome(self, status: CallStatus, seconds: float, answered_by: str | None, answer: str | None) -> Outcome:
        model, provider = self._payee
        return Outcome(
            model=model,
            provider=provider,
            answered_by=answered_by,
            cost_nano=self.spent_nano,
            listed_nano=self._listed_nano,
            price_source=self.price_source,
            status=status,
            usage=self.usage,
            seconds=seconds,
            attempts=len(self._attempts),
            answer=answer if self._ledger.wants_answer else None,
        )
