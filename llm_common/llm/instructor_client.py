"""instructor's client over ours: its API for hosts that know it, our retries, budgets and ledger beneath.

instructor's handlers only need a `create` function that takes the arguments of OpenAI's chat completions and answers
with OpenAI's objects. Ours asks `LLMClient.complete` for each of its requests, so that each has its own ledger row.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from llm_common._runtime.extras import require
from llm_common.llm.structured.partial_output import Delta
from llm_common.models import Completion, ToolCall
from llm_common.usage import Usage

if TYPE_CHECKING:
    from instructor import AsyncInstructor, Mode
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    from llm_common.llm.streaming import CompletionStream

__all__ = ["instructor_client"]

_FINISH_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter"})


class _Client(Protocol):
    async def complete(self, messages: Any, model: str | None = None, /, **arguments: Any) -> Completion[Any]: ...

    def stream(self, messages: Any, model: str | None = None, /, **arguments: Any) -> "CompletionStream[Any]": ...


def instructor_client(client: _Client, mode: "Mode | None" = None) -> "AsyncInstructor":
    """instructor's async client, whose every request goes through `client`, an `LLMClient`.

    `mode` is instructor's way of asking; None is `Mode.TOOLS`. z.ai's models refuse forced tools: use `Mode.JSON`.
    Arguments of `complete` (`step`, `user_id`, `timeout`, ...) can be given beside instructor's own. What `client`
    raises (`BudgetExceededError`, ...) is the `__cause__` of instructor's `InstructorRetryException`.
    """
    require("instructor", extra="instructor", what="instructor_client")
    from instructor import Mode, from_litellm  # its door for a bare function
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    async def create(
        *, messages: Any, model: str | None = None, stream: bool = False, **arguments: Any
    ) -> "ChatCompletion | AsyncIterator[ChatCompletionChunk]":
        if stream:
            return _chunks(client.stream(messages, model, **arguments), ChatCompletionChunk.model_validate)
        return ChatCompletion.model_validate(_completion(await client.complete(messages, model, **arguments)))

    made: Callable[..., Awaitable[Any]] = create
    return from_litellm(made, mode=Mode.TOOLS if mode is None else mode, async_client=True)


async def _chunks(
    stream: "CompletionStream[Any]", made: "Callable[[Mapping[str, Any]], ChatCompletionChunk]"
) -> "AsyncGenerator[ChatCompletionChunk]":
    """The pieces of a stream; leaving it closes the provider's connection and settles."""
    async with stream:
        async for delta in stream:
            yield made(_chunk(delta, finish_reason=None))
        yield made(_chunk(Delta(), finish_reason=_finish_reason(stream.completion.finish_reason)))


def _completion(completion: Completion[Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": completion.text or None}
    if completion.tool_calls:
        message["tool_calls"] = [_call(call) for call in completion.tool_calls]
    choice = {"index": 0, "message": message, "finish_reason": _finish_reason(completion.finish_reason)}
    return {
        "id": completion.request_id or "",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": completion.answered_by,
        "choices": [choice],
        "usage": _usage(completion.usage),
    }


def _chunk(delta: Delta, *, finish_reason: str | None) -> dict[str, Any]:
    pieces = [
        {
            "index": piece.index,
            "id": piece.id,
            "type": "function",
            "function": {"name": piece.name, "arguments": piece.arguments},
        }
        for piece in delta.tool_calls
    ]
    said = {"content": delta.text or None, "tool_calls": pieces or None}
    return {
        "id": "",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": "",
        "choices": [{"index": 0, "delta": said, "finish_reason": finish_reason}],
    }


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _finish_reason(reason: str | None) -> str:
    if reason in {"sensitive", "refusal"}:
        return "content_filter"
    return reason if reason in _FINISH_REASONS else "stop"


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
