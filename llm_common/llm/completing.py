"""One call from its first request to its settlement: the answer as a `Completion`."""

import asyncio
import time
from typing import Any

from llm_common.llm.asking import Answer, Asking
from llm_common.models import CallStatus, Completion

__all__ = ["completion_of"]


async def completion_of(asking: Asking) -> Completion[Any]:
    """Ask, settle, tell the hooks. Raises what the asking raises, after it was settled."""
    if asking.hooks is not None:
        await asking.hooks.before()
    account = asking.account
    try:
        answer = await asking.answer()
    except BaseException as error:
        seconds = time.monotonic() - asking.deadline.began
        status: CallStatus = "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
        await account.close(status, seconds)
        if asking.hooks is not None:
            await asking.hooks.after(seconds, answer=None, error=error)
        raise
    seconds = time.monotonic() - asking.deadline.began
    await account.close("ok", seconds, answered_by=answer.wire.answered_by, answer=answer.wire.text)
    completion = _completion(asking, answer, seconds)
    if asking.hooks is not None:
        await asking.hooks.after(seconds, answer=completion, error=None)
    return completion


def _completion(asking: Asking, answer: Answer, seconds: float) -> Completion[Any]:
    wire, route, account = answer.wire, answer.candidate.route, asking.account
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
