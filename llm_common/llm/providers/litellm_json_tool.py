"""LiteLLM's stand-in for structured output: a tool of its own, whose arguments are the answer. Pure.

For models without a `response_format` it offers a tool `json_tool_call` instead (`RESPONSE_FORMAT_TOOL_NAME` in its
`constants.py`) and turns the call back into text. Answers that we read ourselves are turned back here.
"""

from collections.abc import AsyncGenerator
from dataclasses import replace

from llm_common.llm.wire import ToolCallDelta, WireAnswer, WireChunk, WireRequest

__all__ = ["JSON_TOOL", "chunks_without_json_tool", "without_json_tool"]

JSON_TOOL = "json_tool_call"


def without_json_tool(request: WireRequest, answer: WireAnswer) -> WireAnswer:
    """The answer with the stand-in's arguments as its text."""
    if not _is_used(request) or not any(call.name == JSON_TOOL for call in answer.tool_calls):
        return answer
    text = "".join(call.arguments for call in answer.tool_calls if call.name == JSON_TOOL)
    others = tuple(call for call in answer.tool_calls if call.name != JSON_TOOL)
    return replace(answer, text=text, tool_calls=others, finish_reason=_reason(answer.finish_reason))


async def chunks_without_json_tool(
    request: WireRequest, chunks: AsyncGenerator[WireChunk]
) -> AsyncGenerator[WireChunk]:
    """The same for the pieces of a stream."""
    used, answers = _is_used(request), set[int]()
    async for chunk in chunks:
        if not used:
            yield chunk
            continue
        answers |= {piece.index for piece in chunk.tool_calls if piece.name == JSON_TOOL}
        yield _turned(chunk, answers) if answers else chunk


def _turned(chunk: WireChunk, answers: set[int]) -> WireChunk:
    text, others = [chunk.text], list[ToolCallDelta]()
    for piece in chunk.tool_calls:
        if piece.index in answers:
            text.append(piece.arguments)
        else:
            others.append(piece)
    reason = _reason(chunk.finish_reason)
    return replace(chunk, text="".join(text), tool_calls=tuple(others), finish_reason=reason)


def _reason(reason: str | None) -> str | None:
    return "stop" if reason == "tool_calls" else reason


def _is_used(request: WireRequest) -> bool:
    wanted = request.response_format is not None or "response_format" in request.extra
    return wanted and JSON_TOOL not in request.tool_names
