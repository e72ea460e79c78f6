"""A stream of one answer: falls back until the first piece was handed out, and settles however it ends."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from llm_common.exceptions import (
    DeadlineExceededError,
    InvalidInputError,
    LLMError,
    StreamInterruptedError,
)
from llm_common.llm.attempts import CallExecution
from llm_common.llm.candidates import Candidate, Charge, broken_off
from llm_common.llm.limits.gate import FREE, Slot
from llm_common.llm.streamed_answer import StreamedAnswer
from llm_common.llm.structured.output_modes import instance_in, misfit, unwrapped
from llm_common.llm.structured.partial_output import Delta, PartialOutput
from llm_common.llm.structured.schema import SchemaMismatchError
from llm_common.llm.wire import WireAnswer, WireChunk
from llm_common.models import CallStatus, Completion

__all__ = ["CompletionStream", "Delta", "Patience"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the first piece, and between two pieces. Seconds; None waits until the deadline."""

    first_token: float | None = None
    stall: float | None = None


@dataclass(slots=True)
class _Opened:
    """A stream whose first piece has arrived: from here on no other candidate can take over unseen."""

    candidate: Candidate
    bound: int
    started: float
    slot: Slot
    connection: AbstractAsyncContextManager[AsyncIterator[WireChunk]]
    chunks: AsyncIterator[WireChunk]
    first: WireChunk
    seconds_to_first_token: float

    async def leave(self) -> None:
        """Close the provider's connection, then end the request's turn."""
        try:
            await self.connection.__aexit__(None, None, None)
        finally:
            await self.slot.__aexit__(None, None, None)


class CompletionStream(Generic[T]):
    """One streamed answer. Leaving the `async with` closes the provider's connection and settles what was used.

        async with llm.stream("Tell me a story") as stream:
            async for delta in stream:
                print(delta.text, end="")
        print(stream.completion.cost_usd)

    Retries and fallbacks happen before the first delta; a break after it raises `StreamInterruptedError` with the text
    so far and its cost. With a `response_model`, `delta.partial` is the object so far and `completion.parsed` the
    instance; an answer that does not fit at its end raises `StructuredOutputError`: pieces of it were handed out, so it
    is not asked for again.
    """

    #: Of the answer as it comes in, made anew for each request.
    _seen: StreamedAnswer
    _pieces: PartialOutput

    def __init__(self, prepare: Callable[[], Awaitable[CallExecution]], patience: Patience) -> None:
        self._prepare = prepare
        self._patience = patience
        self._execution: CallExecution | None = None
        self._opened: _Opened | None = None
        self._completion: Completion[T] | None = None
        self._error: LLMError | None = None

    @property
    def completion(self) -> Completion[T]:
        """The whole answer with usage and cost, once the stream has ended."""
        if self._completion is None:
            raise InvalidInputError("the stream has not ended: read it to its end before asking for its completion")
        return self._completion

    async def __aenter__(self) -> Self:
        self._execution = execution = await self._prepare()
        if execution.hooks is not None:
            await execution.hooks.before()
        try:
            self._opened = await execution.first_success(self._open)
        except BaseException as error:
            status: CallStatus = "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
            await execution.account.close(status, time.monotonic() - execution.deadline.began)
            await self._tell_of_end(execution, error)
            raise
        return self

    async def _tell_of_end(self, execution: CallExecution, error: BaseException | None) -> None:
        if execution.hooks is not None:
            seconds = time.monotonic() - execution.deadline.began
            await execution.hooks.after(seconds, answer=self._completion, error=error)

    async def _open(self, candidate: Candidate, more_candidates: bool) -> _Opened:  # noqa: FBT001
        assert self._execution is not None
        return await self._execution.retrying(
            candidate, more_candidates, partial(self._open_once, self._execution, candidate)
        )

    async def _open_once(self, execution: CallExecution, candidate: Candidate) -> _Opened:
        slot = FREE if execution.gate is None else execution.slot(candidate, execution.question.messages)
        # Both contexts, this and the connection's, are left by whoever closes the stream. An exit stack for them would
        # cost a tenth of the time to the first piece.
        await slot.__aenter__()
        try:
            return await self._opened_in(slot, execution, candidate)
        except BaseException as error:
            await slot.__aexit__(type(error), error, error.__traceback__)
            raise

    async def _opened_in(self, slot: Slot, execution: CallExecution, candidate: Candidate) -> _Opened:
        question, self._seen = execution.question, StreamedAnswer()
        self._pieces = PartialOutput(question.output, question.tools)
        request = candidate.request(question, question.messages)
        bound = candidate.bound(question, request)
        await execution.account.cover(candidate, bound)
        started = time.monotonic()
        connection = candidate.wire.stream(request, timeout=execution.deadline.left_for(candidate))
        slot.sends()
        try:
            if self._patience.first_token is None:  # the usual case, and a timer costs
                chunks, first = await self._begun(connection, candidate)
            else:
                # The wait for the first piece begins with the request: its headers may be what does not come.
                async with _patient(self._patience.first_token, candidate, "no first token"):
                    chunks, first = await self._begun(connection, candidate)
        except LLMError as error:
            execution.failed(candidate, error, bound=bound, seconds=time.monotonic() - started)
            raise
        except BaseException as error:
            spent = broken_off(error, bound)
            execution.account.note(candidate, spent, error, time.monotonic() - started, covered=bound)
            raise
        return _Opened(candidate, bound, started, slot, connection, chunks, first, time.monotonic() - started)

    async def _begun(
        self, connection: AbstractAsyncContextManager[AsyncIterator[WireChunk]], candidate: Candidate
    ) -> tuple[AsyncIterator[WireChunk], WireChunk]:
        """The stream once its first piece has come, and that piece."""
        chunks = await connection.__aenter__()
        try:
            async for chunk in chunks:
                self._seen.add(chunk)
                if chunk.text or chunk.tool_calls:
                    return chunks, chunk
            self._seen.answer(candidate.route)
        except BaseException as error:
            await connection.__aexit__(type(error), error, error.__traceback__)
            raise
        raise AssertionError("a stream without a piece of an answer is refused above")

    async def __aiter__(self) -> AsyncIterator[Delta]:
        opened = self._opened
        if opened is None:
            raise InvalidInputError("open the stream first: `async with llm.stream(...) as stream`")
        yield self._pieces.delta(opened.first)
        while (chunk := await self._next(opened)) is not None:
            if chunk.text or chunk.tool_calls:
                yield self._pieces.delta(chunk)
        await self._finish(opened)

    async def _next(self, opened: _Opened) -> WireChunk | None:
        try:
            if self._patience.stall is None:  # the usual case, once for each piece
                chunk = await anext(opened.chunks, None)
            else:
                async with _patient(self._patience.stall, opened.candidate, "the stream stalled"):
                    chunk = await anext(opened.chunks, None)
        except LLMError as error:
            self._error = error
            raise await self._interrupted(opened, error) from error
        if chunk is not None:
            self._seen.add(chunk)
        return chunk

    async def _interrupted(self, opened: _Opened, error: LLMError) -> StreamInterruptedError:
        assert self._execution is not None
        self._execution.breakers.failed(opened.candidate.circuit, error)
        await self._close(opened, "cut", error)
        text = self._answer_so_far(opened, self._execution).text
        interrupted = StreamInterruptedError(
            f"the stream of {opened.candidate.route.asked} broke after {len(text)} characters: {error}",
            partial_text=text,
            provider=opened.candidate.route.provider,
            model=opened.candidate.route.asked,
            attempts=self._execution.account.attempts,
            cost_usd=self._execution.account.cost_usd,
        )
        await self._tell_of_end(self._execution, interrupted)
        return interrupted

    def _answer_so_far(self, opened: _Opened, execution: CallExecution) -> WireAnswer:
        answer, question = self._seen.so_far(opened.candidate.route), execution.question
        return answer if question.output is None else unwrapped(question.output, question.tools, answer)

    async def _finish(self, opened: _Opened) -> None:
        assert self._execution is not None
        route, account = opened.candidate.route, self._execution.account
        self._execution.breakers.succeeded(opened.candidate.circuit)
        answer = self._answer_so_far(opened, self._execution)
        parsed = await self._parsed(opened, self._execution, answer)
        await self._close(opened, "ok", None)
        self._completion = Completion(
            text=answer.text,
            parsed=parsed,
            tool_calls=answer.tool_calls,
            finish_reason=answer.finish_reason,
            usage=account.usage,
            cost_usd=account.cost_usd,
            price_source=account.price_source,
            model=route.asked,
            answered_by=answer.answered_by,
            provider=route.provider,
            attempts=account.attempts,
            seconds=time.monotonic() - opened.started,
            seconds_to_first_token=opened.seconds_to_first_token,
            request_id=answer.request_id,
        )
        await self._tell_of_end(self._execution, None)

    async def _parsed(self, opened: _Opened, execution: CallExecution, answer: WireAnswer) -> Any:
        """The instance that was asked for. Settles and raises where the answer is none."""
        question = execution.question
        if question.output is None:
            return None
        try:
            return instance_in(question.output, question.tools, answer)
        except SchemaMismatchError as mismatch:
            error = misfit(opened.candidate.route, question.output, answer, mismatch, tries=1)
            self._error = error
            await self._close(opened, "failed", error)
            error.attempts, error.cost_usd = execution.account.attempts, execution.account.cost_usd
            await self._tell_of_end(execution, error)
            raise error from mismatch

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._opened is not None and self._completion is None and self._error is None:
            await self._close(self._opened, "cancelled", None)
            if self._execution is not None:
                # Left before its end, by the caller's own choice or by an exception of the caller's.
                await self._tell_of_end(self._execution, error or asyncio.CancelledError("the stream was left"))

    async def _close(self, opened: _Opened, status: CallStatus, error: LLMError | None) -> None:
        """Close the provider's connection first, then charge what is known and settle."""
        assert self._execution is not None
        self._opened = None
        seconds = time.monotonic() - opened.started
        opened.slot.used(self._seen.usage)
        try:
            await opened.leave()
        finally:
            account = self._execution.account
            charge = self._charge(opened, self._execution)
            account.note(opened.candidate, charge, error, seconds, covered=opened.bound)
            await account.close(status, seconds, answered_by=self._seen.answered_by)

    def _charge(self, opened: _Opened, execution: CallExecution) -> Charge:
        seen = self._seen
        used, counted = seen.used(execution.question.prompt_bound)
        charge = opened.candidate.charge(used, seen.cost_usd, bound=opened.bound)
        if counted or seen.cost_usd is not None:
            return charge
        return Charge(min(opened.bound, charge.nano), "estimate", used)


@asynccontextmanager
async def _patient(seconds: float, candidate: Candidate, what: str) -> AsyncGenerator[None]:
    """Turn waiting for longer than `seconds` into an error that says for what."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        if isinstance(error, LLMError):  # the wire's own deadline
            raise
        raise DeadlineExceededError(
            f"{candidate.route.asked}: {what} within {seconds:g} seconds",
            provider=candidate.route.provider,
            model=candidate.route.asked,
            maybe_billed=True,
        ) from error
