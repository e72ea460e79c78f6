"""One call from its first request to its settlement: the answer as a `Completion`."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from llm_common.llm.attempts import CallExecution, ModelAnswer
from llm_common.models import CallStatus, Completion, Embeddings

__all__ = ["completion_of", "settled"]

T = TypeVar("T")
ResultT = TypeVar("ResultT", bound=Completion[Any] | Embeddings)


def completion_of(execution: CallExecution) -> Awaitable[Completion[Any]]:
    """Ask, settle, tell the hooks. Raises what the execution raises, after it was settled."""

    def recorded(answer: ModelAnswer) -> tuple[str, str | None]:
        return answer.wire.answered_by, answer.wire.text

    return settled(
        execution, execution.answer, recorded, lambda answer, seconds: _completion(execution, answer, seconds)
    )


async def settled(
    execution: CallExecution,
    ask: Callable[[], Awaitable[T]],
    recorded: Callable[[T], tuple[str, str | None]],
    result: Callable[[T, float], ResultT],
) -> ResultT:
    """`ask()`, closed in the ledger and told to the hooks, however it ends.

    `recorded` gives who answered and the answer's text, `result` what the caller gets of an answer after some seconds.
    """
    if execution.hooks is not None:
        await execution.hooks.before()
    account = execution.account
    try:
        answer = await ask()
    except BaseException as error:
        seconds = time.monotonic() - execution.deadline.began
        status: CallStatus = "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
        await account.close(status, seconds)
        if execution.hooks is not None:
            await execution.hooks.after(seconds, answer=None, error=error)
        raise
    seconds = time.monotonic() - execution.deadline.began
    answered_by, text = recorded(answer)
    await account.close("ok", seconds, answered_by=answered_by, answer=text)
    told = result(answer, seconds)
    if execution.hooks is not None:
        await execution.hooks.after(seconds, answer=told, error=None)
    return told


def _completion(execution: CallExecution, answer: ModelAnswer, seconds: float) -> Completion[Any]:
    wire, route, account = answer.wire, answer.candidate.route, execution.account
    return Completion(
        text=wire.text,
        parsed=answer.parsed,
        tool_calls=wire.tool_calls,
        finish_reason=wire.finish_reason,
        usage=account.usage,
        cost_usd=account.cost_usd,
        price_source=account.price_source,
        model=route.asked,
        answered_by=wire.answered_by,
        provider=route.provider,
        attempts=account.attempts,
        seconds=seconds,
        request_id=wire.request_id,
        raw=wire.raw,
    )
