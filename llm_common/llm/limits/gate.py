"""The slot of one request: which limits bind it, what it will probably use, and what it used."""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from llm_common._text.tokens import likely, upper_bound
from llm_common.exceptions import LimitReachedError, LLMError
from llm_common.llm.candidates import Candidate, Messages, Question
from llm_common.llm.limits.rules import WAITING_SHARE, Limiter, LimitRequest, Limits, Permit
from llm_common.usage import Usage

__all__ = ["FREE", "Gate", "Slot", "tokens_of"]

#: What an answer is taken to be where the caller sets no `max_tokens`: most are shorter, and the truth follows soon.
_USUAL_ANSWER = 1_024


class Slot:
    """`async with slot:` waits until the request may go, and tells afterwards that it is over. This one is free.

    Call `sends()` right before the request goes out, and `used(...)` once it is known what it used.
    """

    def sends(self) -> None:
        """From here on the provider may count it."""

    def used(self, usage: Usage | None) -> None:
        """What the provider counted; None where it did not say."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing was taken."""


#: The slot of a request that nothing limits.
FREE = Slot()


class Gate:
    """The limits of one call: those of the client under each model's provider and names, and those of the call's own.

    `named` are by provider (`zai`), by the model's name as it is asked for, or by `provider/name`. `always` bind
    every request, under keys of their own: a profile's limits, say. All that bind a request must let it go.

    For tokens per minute a request counts as a quarter of its prompt's bytes, and as its `max_tokens` (providers
    that count beforehand count that too) or 1,024 where it has none; then as what the provider counted. A request
    that failed without being billed counts as nothing; one that was cut off keeps its guess.
    """

    def __init__(self, limiter: Limiter, named: Mapping[str, Limits], always: Mapping[str, Limits]) -> None:
        self._limiter = limiter
        self._named = named
        self._always = always

    def slot(self, candidate: Candidate, tokens: Callable[[], int], seconds_left: float) -> Slot:
        """The slot of one request that has `seconds_left` with its answer; `tokens()` guesses what it will use."""
        limits = self.limits_of(candidate)
        if not limits:
            return FREE
        counted = any(limit.tokens_per_minute is not None for limit in limits.values())
        return _LimitedTurn(self._limiter, LimitRequest(limits, tokens() if counted else 0), candidate, seconds_left)

    def limits_of(self, candidate: Candidate) -> dict[str, Limits]:
        """By key, the limits that bind requests to a candidate."""
        route = candidate.route
        keys = (route.provider, route.asked, f"{route.provider}/{route.name}")
        return {**{key: self._named[key] for key in keys if key in self._named}, **self._always}


def tokens_of(candidate: Candidate, question: Question, messages: Messages) -> int:
    """How many tokens a request is taken to use, before anybody knows."""
    prompt = likely(upper_bound(messages, question.tools))
    answer = question.max_tokens or min(_USUAL_ANSWER, candidate.output_limit(question))
    return prompt + answer


class _LimitedTurn(Slot):
    def __init__(self, limiter: Limiter, claim: LimitRequest, candidate: Candidate, seconds_left: float) -> None:
        self._usage: Usage | None = None
        self._limiter = limiter
        self._claim = claim
        self._candidate = candidate
        self._seconds_left = seconds_left
        self._sent = False
        self._permit: Permit | None = None

    def sends(self) -> None:
        self._sent = True

    def used(self, usage: Usage | None) -> None:
        self._usage = usage

    async def __aenter__(self) -> Self:
        try:
            patience = WAITING_SHARE * self._seconds_left
            self._permit = await self._limiter.acquire(self._claim, patience=patience)
        except LimitReachedError as error:
            error.provider, error.model = self._candidate.route.provider, self._candidate.route.asked
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        permit, self._permit = self._permit, None
        if permit is None:
            return
        if self._sent:
            await permit.end(self._tokens(error))
        else:
            await permit.give_back()

    def _tokens(self, error: BaseException | None) -> int | None:
        usage = error.usage if isinstance(error, LLMError) else self._usage
        if usage is not None:
            return usage.total_tokens
        return 0 if isinstance(error, LLMError) and not error.maybe_billed else None
