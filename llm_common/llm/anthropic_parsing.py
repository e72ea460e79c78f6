"""Answers of Anthropic's Messages API, whole and streamed, as `WireAnswer` and `WireChunk`. Pure.

Sources: https://docs.anthropic.com/en/api/messages, https://docs.anthropic.com/en/docs/build-with-claude/streaming,
https://docs.anthropic.com/en/api/handling-stop-reasons
"""

from collections.abc import Mapping
from typing import Any, cast

from pydantic_core import to_json

from llm_common.exceptions import LLMError
from llm_common.llm.error_parsing import error_in
from llm_common.llm.json_text import unreadable
from llm_common.llm.response_parsing import judged, reported
from llm_common.llm.stream_reader import Format
from llm_common.llm.token_usage import merge_usage, plausible, usage_in
from llm_common.llm.wire import ToolCallDelta, WireAnswer, WireChunk, WireRequest
from llm_common.models import ToolCall
from llm_common.usage import Usage

__all__ = ["ANTHROPIC"]

Json = Mapping[str, Any]
Headers = Mapping[str, str]

#: OpenAI's words for Anthropic's. What is not here (`pause_turn`: go on with the same messages) stays as it is.
_REASONS: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def _answer(request: WireRequest, payload: Json, headers: Headers) -> WireAnswer:
    """The answer in a complete message. Raises the typed error that a 200 may carry, and refuses an empty answer."""
    route = request.route
    if failure := error_in(payload):
        raise reported(request, failure, headers, payload)
    content = payload.get("content")
    if not isinstance(content, list):
        raise unreadable(route, "has no usable content", to_json(payload, fallback=str))
    blocks = [cast("Json", block) for block in cast("list[object]", content) if isinstance(block, dict)]
    text = "".join(_string(block.get("text")) for block in blocks if block.get("type") == "text")
    # Tools that run at Anthropic (`server_tool_use`, `mcp_tool_use`) are not the caller's to run; `raw` has them.
    calls = tuple(
        ToolCall(id=_string(block.get("id")), name=_string(block.get("name")), arguments=_json(block.get("input")))
        for block in blocks
        if block.get("type") == "tool_use"
    )
    answer = WireAnswer(
        text=text,
        tool_calls=calls,
        finish_reason=_reason(payload),
        usage=plausible(
            usage_in(payload), answered=any(block.get("type") != "text" or block.get("text") for block in blocks)
        ),
        cost_usd=None,
        answered_by=_string(payload.get("model")) or route.name,
        request_id=_request_id(payload, headers),
        raw=payload,
    )
    # Paused, it goes on when it is sent back as it is in `raw`, whether it has said anything or not.
    return answer if answer.finish_reason == "pause_turn" and blocks else judged(route, answer)


class _Events:
    """The events of one streamed message."""

    def __init__(self, request: WireRequest, headers: Headers) -> None:
        self._request = request
        self._headers = headers
        self._usage: Usage | None = None
        #: The caller's tool calls that have begun, and whether their arguments have.
        self._calls: dict[int, bool] = {}
        self._has_content = False
        self.done = False

    def chunk(self, payload: Json) -> WireChunk:
        """What one event says. Raises the typed error that it may carry."""
        if failure := error_in(payload):
            raise self._reported(failure, payload)
        index, kind = _index(payload), payload.get("type")
        if kind == "content_block_delta":
            return self._delta(index, _mapping(payload.get("delta")))
        if kind == "content_block_start":
            return self._block(index, _mapping(payload.get("content_block")))
        if kind == "content_block_stop":
            # A call without arguments has none of their pieces.
            return _arguments(index, "{}") if self._calls.get(index) is False else WireChunk()
        if kind == "message_start":
            message = _mapping(payload.get("message"))
            answered_by, request_id = _string(message.get("model")), _request_id(message, self._headers)
            return WireChunk(usage=self._counted(message), answered_by=answered_by or None, request_id=request_id)
        if kind == "message_delta":
            return WireChunk(finish_reason=_reason(_mapping(payload.get("delta"))), usage=self._counted(payload))
        self.done = kind == "message_stop"
        return WireChunk()

    def _counted(self, source: Json) -> Usage | None:
        usage = usage_in(source)
        if usage is not None:
            self._usage = merge_usage(self._usage, usage)
        return usage

    def _block(self, index: int, block: Json) -> WireChunk:
        self._has_content = True
        if block.get("type") != "tool_use":
            return WireChunk(text=_string(block.get("text")))
        given = block.get("input")
        self._calls[index] = bool(given)
        called = ToolCallDelta(
            index=index,
            id=_string(block.get("id")) or None,
            name=_string(block.get("name")) or None,
            arguments=_json(given) if given else "",
        )
        return WireChunk(tool_calls=(called,))

    def _delta(self, index: int, delta: Json) -> WireChunk:
        if index in self._calls:
            piece = _string(delta.get("partial_json"))
            self._calls[index] = self._calls[index] or bool(piece)
            return _arguments(index, piece) if piece else WireChunk()
        return WireChunk(text=_string(delta.get("text")), reasoning=_string(delta.get("thinking")))

    def _reported(self, failure: Json, payload: Json) -> LLMError:
        error = reported(self._request, failure, self._headers, payload)
        if error.usage is None and not self._has_content:
            error.usage = self._usage  # counted when it began, and nothing was written since
        return error


def _arguments(index: int, piece: str) -> WireChunk:
    return WireChunk(tool_calls=(ToolCallDelta(index=index, arguments=piece),))


def _reason(source: Json) -> str | None:
    reason = _string(source.get("stop_reason"))
    return _REASONS.get(reason, reason) or None


def _request_id(message: Json, headers: Headers) -> str | None:
    return headers.get("request-id") or _string(message.get("id")) or None


def _index(payload: Json) -> int:
    index = payload.get("index")
    return index if isinstance(index, int) else 0


def _json(value: object) -> str:
    return to_json(value if isinstance(value, dict) else {}).decode()


def _mapping(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


ANTHROPIC = Format(_answer, _Events)
