"""One call through the response cache: a stored answer, the flight that is under way, or the model.

An answer is stored under the request to the model that gave it. A chain looks for its first model's: a hit is what
that model said, never a stand-in's.
"""

import asyncio
import copy
import logging
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from llm_common._runtime.outage import Outage
from llm_common._runtime.single_flight import SingleFlight
from llm_common.exceptions import BudgetExceededError, DatabaseError, DeadlineExceededError, LLMError
from llm_common.ledger.protocol import Ledger, RecordingLedger
from llm_common.llm.arguments import CallOptions
from llm_common.llm.attempts import CallExecution
from llm_common.llm.completion import completion_of
from llm_common.llm.response_key import response_key
from llm_common.llm.stored_answer import Lookup, Owner, ResponseCache, StoredAnswer, storable
from llm_common.llm.structured.schema import SchemaMismatchError, parse
from llm_common.models import Completion, Outcome, PlannedCall
from llm_common.usage import Usage

__all__ = ["CachedCompletion"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Call:
    """`keys` are those of the candidates, in their order."""

    execution: CallExecution
    options: CallOptions
    ledger: Ledger
    owner: Owner
    keys: tuple[str, ...]


class CachedCompletion:
    """Calls of one client, of one project. Equal calls at once are one."""

    def __init__(self, cache: ResponseCache, project: str) -> None:
        self._cache = cache
        self._project = project
        self._flights: SingleFlight[Completion[Any]] = SingleFlight(_cut_off)
        self._recording = Outage("the ledger", "answers from the response cache are not recorded")

    async def completion_of(self, execution: CallExecution, options: CallOptions, ledger: Ledger) -> Completion[Any]:
        """Like `completing.completion_of`. An answer that was asked for just now by somebody else counts as stored."""
        call = self._call(execution, options, ledger)
        # A ledger that stores the answer with its money wants one that was paid.
        if call is None or ledger.wants_answer:
            return await completion_of(execution)
        lookup = await self._look(call.keys[0])
        if lookup.answer is not None and (stored := self._served(call, lookup.answer)) is not None:
            return await self._end(call, stored)
        # Calls that may end differently are not one.
        flight = " ".join((*call.keys, *(["policy"] if execution.fallback_on_content_policy else [])))
        if self._flights.under_way(flight) is None:
            return await self._flights.run_while_wanted(flight, lambda: self._ask(call, lookup.ticket))
        return await self._follow(call, flight, lookup.ticket)

    async def aclose(self) -> None:
        """Let what is under way on the running loop land, for a few seconds; cancel the rest."""
        await self._flights.aclose()

    def _call(self, execution: CallExecution, options: CallOptions, ledger: Ledger) -> _Call | None:
        owner = Owner(self._project, options.user_id)
        keys = tuple(
            response_key(
                candidate.request(execution.question, execution.question.messages),
                project=owner.project,
                user_id=owner.user_id,
            )
            for candidate in execution.candidates
        )
        known = tuple(key for key in keys if key is not None)
        return _Call(execution, options, ledger, owner, known) if len(known) == len(keys) else None

    async def _look(self, key: str) -> Lookup:
        try:
            return await self._cache.get(key)
        except Exception:  # noqa: BLE001 (reported in full; a cache that fails is no reason to fail a call)
            _log.exception("the response cache failed; the model is asked")
            return Lookup()

    async def _ask(self, call: _Call, ticket: str | None) -> Completion[Any]:
        completion = await completion_of(call.execution)
        answer = None if ticket is None else storable(completion)
        if ticket is not None and answer is not None:
            asked = [candidate.route.asked for candidate in call.execution.candidates]
            key = call.keys[asked.index(completion.model)]
            try:
                await self._cache.put(key, call.owner, answer, ticket=ticket)
            except Exception:  # noqa: BLE001 (reported in full; the answer is there and paid for)
                _log.exception("the response cache failed; the answer is not stored")
        return completion

    async def _follow(self, call: _Call, flight: str, ticket: str | None) -> Completion[Any]:
        """Wait for somebody else's equal call, no longer than this one may take."""
        deadline = call.execution.deadline
        try:
            async with asyncio.timeout(deadline.left()):
                completion = await self._flights.run_while_wanted(flight, lambda: self._ask(call, ticket))
        except TimeoutError:
            route = call.execution.candidates[0].route
            raise DeadlineExceededError(
                f"an equal call to {route.asked} was still under way after {deadline.seconds:g} s; raise timeout",
                provider=route.provider,
                model=route.asked,
            ) from None
        except (BudgetExceededError, DeadlineExceededError):
            # Those are the other's budget and the other's time.
            return await self._ask(call, ticket)
        except LLMError as error:
            raise await self._shared(call, error) from error
        answer = storable(completion)
        served = None if answer is None else self._served(call, answer)
        return await self._ask(call, ticket) if served is None else await self._end(call, served)

    def _served(self, call: _Call, answer: StoredAnswer) -> Completion[Any] | None:
        """The stored answer as this call's; None where it does not fit what this call validates with."""
        output, route = call.execution.question.output, call.execution.candidates[0].route
        parsed: Any = None
        if output is not None and answer.text:
            try:
                parsed = parse(output, answer.text)
            except SchemaMismatchError:
                return None
        return Completion(
            text=answer.text,
            parsed=parsed,
            tool_calls=answer.calls,
            finish_reason=answer.finish_reason,
            usage=Usage(),
            cost_usd=Decimal(0),
            price_source=answer.price_source,
            model=route.asked,
            answered_by=answer.answered_by,
            provider=answer.provider,
            attempts=(),
            seconds=time.monotonic() - call.execution.deadline.began,
            from_cache=True,
            cached_usage=answer.used,
        )

    async def _end(self, call: _Call, completion: Completion[Any]) -> Completion[Any]:
        hooks = call.execution.hooks
        if hooks is not None:
            await hooks.before()
        await self._record(call, completion)
        if hooks is not None:
            await hooks.after(completion.seconds, answer=completion, error=None)
        return completion

    async def _shared(self, call: _Call, error: LLMError) -> LLMError:
        """The failure of the call that was waited for. What it cost is in the other's error, once."""
        own = copy.copy(error)
        own.attempts, own.cost_usd = (), Decimal(0)
        hooks = call.execution.hooks
        if hooks is not None:
            await hooks.before()
            await hooks.after(time.monotonic() - call.execution.deadline.began, answer=None, error=own)
        return own

    async def _record(self, call: _Call, completion: Completion[Any]) -> None:
        ledger, options = call.ledger, call.options
        if not isinstance(ledger, RecordingLedger):
            return
        planned = PlannedCall(
            kind="cache_hit",
            model=completion.model,
            provider=completion.provider,
            bound_nano=0,
            step=options.step,
            user_id=options.user_id,
            run_id=options.run_id,
            tags=options.tags,
        )
        outcome = Outcome(
            model=completion.model,
            provider=completion.provider,
            answered_by=completion.answered_by,
            cost_nano=0,
            price_source=completion.price_source,
            status="ok",
            usage=completion.cached_usage,
            seconds=completion.seconds,
            attempts=0,
        )
        try:
            await self._recording.call(lambda: ledger.record(planned, outcome))
        except DatabaseError as error:
            # Nothing was spent: an answer that is there is handed out. The outage says so once, in the log.
            _log.debug("a hit of the response cache was not recorded: %s", error)


def _cut_off() -> LLMError:
    return LLMError("the call was cut off, because its client was closed")
