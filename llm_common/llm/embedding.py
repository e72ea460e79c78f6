"""The vectors of many texts: some requests at a time, money for all of them set aside before the first.

When one batch has failed for good, no other is begun. Those that are on their way are let land: they are paid for, and
landed their true cost is known, where a cancelled one is charged its bound.
"""

import asyncio
import time
from collections.abc import Iterator
from functools import partial

from llm_common._text.tokens import count, likely, text_bound
from llm_common.exceptions import ContextWindowError, InvalidAnswerError, LLMError
from llm_common.llm.attempts import CallExecution
from llm_common.llm.candidates import Candidate, broken_off
from llm_common.llm.completion import settled
from llm_common.llm.embedding_batches import Batch, EmbeddingOrder
from llm_common.llm.limits.gate import Slot
from llm_common.llm.wire import EmbeddingRequest, WireVectors
from llm_common.models import Embeddings

__all__ = ["EmbeddingExecution", "embeddings_of", "refuse_long_texts"]

#: What `count` adds for the framing of a message, which a bare text does not have.
_FRAMING = 7


class _AbandonedError(Exception):
    """Another batch has failed for good, so this one is not sent again."""


class EmbeddingExecution:
    """One call for vectors, ready to be made. Belongs to one task."""

    def __init__(
        self, execution: CallExecution, candidate: Candidate, order: EmbeddingOrder, batches: tuple[Batch, ...]
    ) -> None:
        self.execution = execution
        self._candidate = candidate
        self._order = order
        self._batches = batches
        self._landed: dict[int, WireVectors] = {}
        #: The most that each batch may cost.
        self._bounds = [candidate.text_bound(batch.tokens) for batch in batches]
        #: The batches for which money is set aside, and which were not sent since.
        self._covered: set[int] = set()
        self._sending: set[asyncio.Task[None] | None] = set()
        self._failed = False

    async def answers(self) -> tuple[WireVectors, ...]:
        """What came for each batch, in their order. Raises the first failure, with the cost of all that was sent."""
        return await self.execution.first_success(self._all)

    async def _all(self, _candidate: Candidate, _more: bool) -> tuple[WireVectors, ...]:  # noqa: FBT001
        # Refused here, where nothing was sent, rather than halfway.
        await self.execution.account.cover(self._candidate, sum(self._bounds))
        self._covered.update(range(len(self._batches)))
        waiting = iter(enumerate(self._batches))
        workers = min(self._order.concurrency, len(self._batches))
        tasks = [asyncio.create_task(self._work(waiting)) for _ in range(workers)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            first = next((error for task in done if (error := task.exception())), None)
            if first is not None:
                await self._let_land(tasks)
                raise first
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._check_lengths()
        return tuple(self._landed[number] for number in range(len(self._batches)))

    async def _let_land(self, tasks: list[asyncio.Task[None]]) -> None:
        self._failed = True
        for task in tasks:
            if task not in self._sending:
                task.cancel()
        await asyncio.wait(tasks)

    async def _work(self, waiting: Iterator[tuple[int, Batch]]) -> None:
        for number, batch in waiting:
            self._landed[number] = await self.execution.retrying(
                self._candidate, False, partial(self._send, number, batch)
            )
            if self._failed:
                return

    async def _send(self, number: int, batch: Batch) -> WireVectors:
        async with self.execution.slot_for(self._candidate, lambda: likely(batch.tokens)) as slot:
            answer = await self._exchange(number, batch, slot)
            slot.used(answer.usage)
            return answer

    async def _exchange(self, number: int, batch: Batch, slot: Slot) -> WireVectors:
        execution, candidate, bound = self.execution, self._candidate, self._bounds[number]
        if number not in self._covered:
            # Sent before, and that may have been paid.
            await execution.account.cover(candidate, bound)
        started, seconds_left = time.monotonic(), execution.deadline.left_for(candidate)
        self._covered.discard(number)
        self._sending.add(asyncio.current_task())
        slot.sends()
        try:
            answer = await candidate.wire.embed(self._request(batch), timeout=seconds_left)
        except LLMError as error:
            execution.failed(candidate, error, bound=bound, seconds=time.monotonic() - started)
            if self._failed:
                raise _AbandonedError from error
            raise
        except BaseException as error:
            spent = broken_off(error, bound)
            execution.account.note(candidate, spent, error, time.monotonic() - started, covered=bound)
            raise
        finally:
            self._sending.discard(asyncio.current_task())
        execution.breakers.succeeded(candidate.circuit)
        charge = candidate.charge(answer.usage, answer.cost_usd, bound=bound)
        execution.account.note(candidate, charge, None, time.monotonic() - started, covered=bound)
        return answer

    def _request(self, batch: Batch) -> EmbeddingRequest:
        order = self._order
        return EmbeddingRequest(
            route=self._candidate.route, texts=batch.texts, dimensions=order.dimensions, extra=order.extra
        )

    def _check_lengths(self) -> None:
        lengths = {len(answer.vectors[0]) for answer in self._landed.values()}
        if len(lengths) > 1:
            route = self._candidate.route
            raise InvalidAnswerError(
                f"{route.provider} sent vectors of {' and '.join(map(str, sorted(lengths)))} dimensions for "
                f"{route.name} in one call, and they cannot be compared. Say which with dimensions=.",
                provider=route.provider,
                model=route.name,
            )


async def embeddings_of(batched: EmbeddingExecution) -> Embeddings:
    """Ask, settle, tell the hooks. Raises what the execution raises, after it was settled."""
    execution = batched.execution
    account, route = execution.account, execution.candidates[0].route

    def recorded(answers: tuple[WireVectors, ...]) -> tuple[str, None]:
        return answers[-1].answered_by, None

    def result(answers: tuple[WireVectors, ...], seconds: float) -> Embeddings:
        return Embeddings(
            vectors=tuple(vector for answer in answers for vector in answer.vectors),
            dimensions=len(answers[0].vectors[0]),
            usage=account.usage,
            cost_usd=account.cost_usd,
            price_source=account.price_source,
            model=route.asked,
            answered_by=answers[-1].answered_by,
            provider=route.provider,
            attempts=account.attempts,
            seconds=seconds,
        )

    return await settled(execution, batched.answers, recorded, result)


async def refuse_long_texts(texts: tuple[str, ...], candidate: Candidate) -> None:
    """Raises `ContextWindowError` for a text beyond the model's window, before anything is sent."""
    window = candidate.window
    if not window:
        return
    for position, text in enumerate(texts):
        if text_bound(text) <= window:
            continue
        message = {"role": "user", "content": text}
        tokens = await asyncio.to_thread(count, [message], model=candidate.route.name) - _FRAMING
        if tokens > window:
            raise ContextWindowError(
                f"texts[{position}] has about {tokens:,} tokens, and {candidate.route.asked} takes {window:,} at once. "
                "Nothing was sent. Split it.",
                provider=candidate.route.provider,
                model=candidate.route.asked,
            )
