"""Runs the attempts of one call: reserve, send, classify, record, then retry or fall back."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from llm_common._runtime.values import value
from llm_common.exceptions import (
    AllModelsFailed,
    BudgetExceededError,
    DatabaseError,
    DeadlineExceededError,
    LimitReachedError,
    LLMError,
)
from llm_common.llm.account import Account
from llm_common.llm.breaker import Breakers
from llm_common.llm.candidates import Candidate, Charge, Messages, Question, broken_off
from llm_common.llm.fallback import FallbackChain
from llm_common.llm.hedging import first_answer
from llm_common.llm.hooks import CallHooks
from llm_common.llm.limits.gate import FREE, Gate, Slot, tokens_of
from llm_common.llm.retrying import RetryPolicy, decide
from llm_common.llm.structured.output_modes import FINAL_REASONS, instance_in, misfit, reask, unwrapped
from llm_common.llm.structured.schema import OutputSpec, SchemaMismatchError
from llm_common.llm.wire import WireAnswer

__all__ = ["CallExecution", "Deadline", "ModelAnswer"]

_log = logging.getLogger(__name__)

#: How often a request is made anew in one call because its server refused it and said why; that costs nothing.
_MOST_LESSONS = 4

T = TypeVar("T")


class Deadline:
    """One moment by which the whole call must be over."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.began = time.monotonic()
        self._ends = self.began + seconds

    def left(self) -> float:
        return max(0.0, self._ends - time.monotonic())

    def left_for(self, candidate: Candidate) -> float:
        """The seconds that a request may take. Raises `DeadlineExceededError` where there are none."""
        if left := self.left():
            return left
        raise DeadlineExceededError(
            f"the call's {self.seconds:g} seconds were over before {candidate.route.asked} was asked; raise timeout",
            provider=candidate.route.provider,
            model=candidate.route.asked,
        )


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """Who answered, what, and the parsed instance where one was asked for."""

    candidate: Candidate
    wire: WireAnswer
    parsed: Any


#: Of whose prices this process was warned.
_warned: set[tuple[str, str]] = set()


def warn_of_price(candidate: Candidate, charge: Charge) -> None:
    """Say once in a process that a provider bills more than its list says."""
    payee = (candidate.route.provider, candidate.route.name)
    if payee not in _warned and charge.listed_nano:
        _warned.add(payee)
        _log.warning(
            "%s bills %.2f times the listed price of %s; further calls set that much more aside. Give its real price "
            "with LLMClient(prices={...}).",
            candidate.route.provider,
            charge.nano / charge.listed_nano,
            candidate.route.name,
        )


@value
class CallExecution:
    """How one call is carried through: what holds for each of its attempts."""

    question: Question
    candidates: Sequence[Candidate]
    account: Account
    deadline: Deadline
    policy: RetryPolicy
    breakers: Breakers
    hooks: CallHooks | None = None
    gate: Gate | None = None
    fallback_on_content_policy: bool = False
    hedge_after: float | None = None

    def answer(self) -> Awaitable[ModelAnswer]:
        """The first good answer. Raises the one candidate's error, or `AllModelsFailed` with everybody's."""
        if self.hedge_after is None:
            return self.first_success(self._answer_of)
        return self._hedged(self.hedge_after)

    async def _hedged(self, after: float) -> ModelAnswer:
        chain = self._chain()
        answer = await first_answer(
            self._none_on_failure(chain),
            partial(self._hedge, chain),
            after=after,
            is_over=lambda: chain.is_over,
        )
        if answer is None:
            raise self._final(chain.errors)
        self.account.answered_by(answer.candidate)
        return answer

    async def _none_on_failure(self, chain: FallbackChain) -> ModelAnswer | None:
        """None where nobody of the chain answered: a request beside it may still do so."""
        try:
            return await self.first_success(self._answer_of, chain)
        except LLMError:
            return None

    def _chain(self) -> FallbackChain:
        return FallbackChain(self.candidates, self.breakers, on_content_policy=self.fallback_on_content_policy)

    async def first_success(
        self, ask: Callable[[Candidate, bool], Awaitable[T]], chain: FallbackChain | None = None
    ) -> T:
        """`ask(candidate, more_candidates)` each in turn, while their errors are of a kind that another may avoid.

        Raises the one candidate's error, or `AllModelsFailed` with everybody's; `chain` has them all.
        """
        chain = chain or self._chain()
        while (candidate := chain.next()) is not None:
            if self.hooks is not None and chain.errors:
                await self._tell_of_fallback(self.hooks, chain.errors, candidate)
            try:
                return await ask(candidate, chain.has_more)
            except LLMError as error:
                chain.failed(candidate, error)
                if not self.deadline.left():
                    break
        raise self._final(chain.errors)

    async def _hedge(self, chain: FallbackChain) -> ModelAnswer | None:
        """The answer of one more candidate, or of the only one asked again; None where there is none to be had.

        Its failure is no reason to give up the request that it stands beside; where money or limits do not allow it,
        nothing is sent.
        """
        only = self.candidates[0] if len(self.candidates) == 1 else None
        candidate = only or chain.spare()
        if candidate is None or (only is not None and not self.account.in_flight_nano):
            # Nobody is left, or the only one waits for its turn or its next try: twice in line is no faster.
            return None
        try:
            return await self._answer_of(candidate, chain.has_more)
        except (BudgetExceededError, LimitReachedError, DatabaseError) as error:
            _log.info("no second request to %s: %s", candidate.route.asked, error)
            if only is None:
                chain.put_back(candidate)
        except LLMError as error:
            chain.failed(candidate, error)
        return None

    async def _tell_of_fallback(self, hooks: CallHooks, errors: dict[str, LLMError], following: Candidate) -> None:
        model, error = next(reversed(errors.items()))
        sent = sum(attempt.model == model for attempt in self.account.attempts)
        await hooks.retrying(error, model=model, attempt=sent, next_model=following.route.asked, wait=0.0)

    def _final(self, errors: dict[str, LLMError]) -> LLMError:
        *_, last = errors.values()
        if len(errors) > 1 and not isinstance(last, BudgetExceededError):
            told = "; ".join(f"{model}: {error}" for model, error in errors.items())
            everybody = AllModelsFailed(f"all {len(errors)} models failed: {told}", errors=errors)
            everybody.__cause__ = last
            last = everybody
        last.attempts, last.cost_usd = self.account.attempts, self.account.cost_usd
        return last

    async def retrying(
        self,
        candidate: Candidate,
        more_candidates: bool,  # noqa: FBT001 (a fact, no mode)
        once: Callable[[], Awaitable[T]],
    ) -> T:
        """Try `once` as often as the policy allows, and at once again where a refusal says how it is to be asked."""
        attempt = lessons = 0
        while True:
            attempt += 1
            try:
                return await once()
            except LLMError as error:
                if lessons < _MOST_LESSONS and candidate.learns(self.question, error):
                    attempt, lessons = attempt - 1, lessons + 1
                    continue
                decision = decide(
                    error,
                    attempt=attempt,
                    seconds_left=self.deadline.left(),
                    more_candidates=more_candidates,
                    policy=self.policy,
                    jitter=random.random,
                )
                if decision.action != "again":
                    raise
                if self.hooks is not None:
                    model = candidate.route.asked
                    await self.hooks.retrying(error, model=model, attempt=attempt, next_model=model, wait=decision.wait)
                await asyncio.sleep(decision.wait)

    def _answer_of(self, candidate: Candidate, more_candidates: bool) -> Awaitable[ModelAnswer]:  # noqa: FBT001
        output = self.question.output
        if output is None:
            return self.retrying(candidate, more_candidates, partial(self._send, candidate, self.question.messages))
        return self._structured(candidate, more_candidates, output)

    async def _structured(
        self,
        candidate: Candidate,
        more_candidates: bool,  # noqa: FBT001
        output: OutputSpec[Any],
    ) -> ModelAnswer:
        """An answer that fits `output`; a misfit is asked for again, with what is wrong with it."""
        messages = self.question.messages
        for reasks_left in range(self.question.reasks, -1, -1):
            sent = await self.retrying(candidate, more_candidates, partial(self._send, candidate, messages))
            wire = sent.wire
            answer = unwrapped(output, self.question.tools, wire)
            try:
                return ModelAnswer(candidate, answer, instance_in(output, self.question.tools, answer))
            except SchemaMismatchError as mismatch:
                # The provider did its part: asking again is not the retry of a failure.
                if not reasks_left or answer.finish_reason in FINAL_REASONS:
                    tries = self.question.reasks + 1 - reasks_left
                    raise misfit(candidate.route, output, answer, mismatch, tries=tries) from mismatch
                messages = reask(messages, output, self.question.tools, wire, mismatch)
        raise AssertionError("the loop above returns or raises")

    def _send(self, candidate: Candidate, messages: Messages) -> Awaitable[ModelAnswer]:
        if self.gate is None:
            return self._exchange(candidate, messages, FREE)
        return self._in_turn(candidate, messages)

    async def _in_turn(self, candidate: Candidate, messages: Messages) -> ModelAnswer:
        # Money is set aside when the request's turn has come, so that those who wait in line hold none.
        async with self.slot(candidate, messages) as slot:
            answer = await self._exchange(candidate, messages, slot)
            slot.used(answer.wire.usage)
            return answer

    def slot(self, candidate: Candidate, messages: Messages) -> Slot:
        """What every request waits for: that the limits let it go, within the time that is left."""
        return self.slot_for(candidate, partial(tokens_of, candidate, self.question, messages))

    def slot_for(self, candidate: Candidate, tokens: Callable[[], int]) -> Slot:
        """The same for a request that will probably use `tokens()`."""
        return FREE if self.gate is None else self.gate.slot(candidate, tokens, self.deadline.left_for(candidate))

    async def _exchange(self, candidate: Candidate, messages: Messages, slot: Slot) -> ModelAnswer:
        request = candidate.request(self.question, messages)
        bound = candidate.bound(self.question, request)
        await self.account.cover(candidate, bound)
        started, seconds_left = time.monotonic(), self.deadline.left_for(candidate)
        slot.sends()
        try:
            answer = await candidate.wire.send(request, timeout=seconds_left)
        except LLMError as error:
            self.failed(candidate, error, bound=bound, seconds=time.monotonic() - started)
            raise
        except BaseException as error:
            self.account.note(candidate, broken_off(error, bound), error, time.monotonic() - started, covered=bound)
            raise
        self.breakers.succeeded(candidate.circuit)
        charge = candidate.charge(answer.usage, answer.cost_usd, bound=bound)
        if charge.listed_nano and charge.nano > 1.01 * charge.listed_nano:
            warn_of_price(candidate, charge)
        self.account.note(candidate, charge, None, time.monotonic() - started, covered=bound)
        return ModelAnswer(candidate, answer, None)

    def failed(self, candidate: Candidate, error: LLMError, *, bound: int, seconds: float) -> None:
        """Write a failed attempt down, and charge what the provider may bill for it all the same."""
        self.breakers.failed(candidate.circuit, error)
        charge = Charge(0, candidate.price_source)
        if error.maybe_billed:
            # What a wire's error says of usage and cost is the provider's own word; without it, the bound.
            charge = candidate.charge(error.usage, error.cost_usd or None, bound=bound)
        self.account.note(candidate, charge, error, seconds, covered=bound)
