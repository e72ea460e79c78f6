"""Anthropic's Messages API, version 2023-06-01: requests and answers, whole and streamed.

Sources: https://docs.anthropic.com/en/api/messages, https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from llm_common.models import ToolCall
from llm_common.testing.billing import token_count
from llm_common.testing.checks import (
    a_count,
    a_flag,
    a_list,
    a_text,
    an_object,
    is_list_of_objects,
    one_of,
    refuse_unless,
)
from llm_common.testing.errors import Problem, error_answer
from llm_common.testing.generation import Event, Generation, Rendered, pieces_of
from llm_common.testing.schemas import strictness_error
from llm_common.testing.wire import ChatRequest, Json

__all__ = ["parse_messages", "render_messages", "stream_error"]

_STOP_REASONS: Final[Mapping[str, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def parse_messages(body: Json) -> ChatRequest:
    """The request that `body` holds; raises `Refusal` where the service would not take it."""
    for name in ("model", "max_tokens", "messages"):
        refuse_unless(body.get(name) is not None, f"{name}: Field required", parameter=name)
    refuse_unless(body["messages"] != [], "messages: at least one message is required")
    messages = a_list(body, "messages", required=True)
    for index, message in enumerate(messages):
        _check_message(message, index)
    tools = a_list(body, "tools", required=False) if body.get("tools") else []
    for index, tool in enumerate(tools):
        refuse_unless(tool.get("name"), f"tools.{index}.custom.name: Field required")
        refuse_unless(
            tool.get("input_schema") or tool.get("type", "custom") != "custom",
            f"tools.{index}.custom.input_schema: Field required",
        )
    temperature: Any = body.get("temperature")
    refuse_unless(
        temperature is None or (isinstance(temperature, (int, float)) and 0 <= temperature <= 1),
        "temperature: range: 0..1",
    )
    system: list[Json] = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    forced = _forced_tool(an_object(body, "tool_choice"), tools)
    chosen = next((tool for tool in tools if tool["name"] == forced), Json())
    return ChatRequest(
        provider="anthropic",
        model=a_text(body, "model"),
        messages=(*system, *messages),
        schema=chosen.get("input_schema") or _output_schema(body),
        tools=tuple(tools),
        forced_tool=forced,
        json_mode=_output_schema(body) is not None,
        max_tokens=a_count(body, "max_tokens", low=1),
        stream=a_flag(body, "stream"),
        raw=body,
    )


def _check_message(message: Json, index: int) -> None:
    role = message.get("role")
    refuse_unless(
        role != "system",
        'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, not "system" '
        "as an input message role.",
    )
    one_of(role, {"user", "assistant"}, f"messages.{index}.role")
    content: Any = message.get("content")
    refuse_unless(content is not None, f"messages.{index}.content: Field required")
    refuse_unless(
        isinstance(content, str) or is_list_of_objects(content),
        f"messages.{index}.content: Input should be a valid string or a list of content blocks",
    )
    refuse_unless(
        content,
        f"messages.{index}: all messages must have non-empty content except for the optional final assistant message",
    )
    if isinstance(content, list):
        for block in cast("list[Json]", content):
            empty = block.get("type") == "text" and not block.get("text")
            refuse_unless(not empty, "messages: text content blocks must be non-empty")


def _forced_tool(choice: Json, tools: list[Json]) -> str | None:
    if not choice:
        return None
    one_of(choice.get("type"), {"auto", "any", "tool", "none"}, "tool_choice.type")
    if choice["type"] in {"auto", "none"}:
        return None
    refuse_unless(tools, "tool_choice may only be specified while providing tools.")
    if choice["type"] == "any":
        return str(tools[0]["name"])
    name = choice.get("name")
    refuse_unless(any(tool["name"] == name for tool in tools), f"Tool '{name}' not found in provided tools")
    return str(name)


def _output_schema(body: Json) -> Mapping[str, Any] | None:
    wanted = an_object(body, "output_format") or an_object(an_object(body, "output_config"), "format")
    if not wanted:
        return None
    one_of(wanted.get("type"), {"json_schema"}, "output_format.type")
    schema = an_object(wanted, "schema")
    refuse_unless(schema, "output_format.schema: Field required")
    refuse_unless(
        strictness_error(schema, all_required=False) is None,
        "output_format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false",
    )
    return schema


def render_messages(generation: Generation) -> Rendered:
    body = {**_envelope(generation), "content": _blocks(generation), "usage": _usage(generation)}
    body |= {"stop_reason": _stop_reason(generation), "stop_sequence": None}
    return Rendered(body=body, events=tuple(_events(generation)))


def stream_error(generation: Generation, problem: Problem) -> bytes:
    """The event that tells of an error after the stream has begun. It is the last one."""
    error: Any = error_answer("anthropic", problem, _id(generation)).body["error"]
    return _sse("error", {"error": error})


def _id(generation: Generation) -> str:
    return f"msg_{generation.number:012d}"


def _envelope(generation: Generation) -> Json:
    return {"id": _id(generation), "type": "message", "role": "assistant", "model": generation.answered_by}


def _blocks(generation: Generation) -> list[Json]:
    if generation.no_choices:
        return []
    text: list[Json] = [] if generation.text is None else [{"type": "text", "text": generation.text}]
    return [*text, *(_tool_use(call, _input(call.arguments)) for call in generation.tool_calls)]


def _tool_use(call: ToolCall, arguments: Json) -> Json:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _input(arguments: str) -> Json:
    """The arguments as an object; what `max_tokens` cut short is no object, and the service shows nothing of it."""
    try:
        value: object = json.loads(arguments)
    except json.JSONDecodeError:
        return {}
    return cast("Json", value) if isinstance(value, dict) else {}


def _stop_reason(generation: Generation) -> str:
    # A forced tool is a tool use here too, whatever OpenAI calls it.
    if generation.tool_calls and generation.finish_reason == "stop":
        return "tool_use"
    return _STOP_REASONS.get(generation.finish_reason, generation.finish_reason)


def _usage(generation: Generation, output_tokens: int | None = None) -> Json:
    usage = generation.usage
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens - usage.cache_write_1h_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.output_tokens if output_tokens is None else output_tokens,
        "service_tier": "standard",
    }


def _events(generation: Generation) -> Iterator[Event]:
    usage = _usage(generation, output_tokens=min(1, generation.usage.output_tokens))
    message: Json = {**_envelope(generation), "content": [], "stop_reason": None, "stop_sequence": None}
    message["usage"] = usage
    yield Event(_sse("message_start", {"message": message}))
    yield Event(_sse("ping", {}))
    total = generation.usage.output_tokens
    if not generation.no_choices:
        yield from _block_events(generation)
    delta = {"stop_reason": _stop_reason(generation), "stop_sequence": None}
    yield Event(_sse("message_delta", {"delta": delta, "usage": {"output_tokens": total}}), output_tokens=total)
    yield Event(_sse("message_stop", {}), output_tokens=total)


def _block_events(generation: Generation) -> Iterator[Event]:
    made, index = 0, 0
    if generation.text is not None:
        yield _opening(index, {"type": "text", "text": ""}, made)
        for piece in generation.pieces:
            made += token_count(piece)
            yield _piece(index, {"type": "text_delta", "text": piece}, made)
        yield _closing(index, made)
        index += 1
    for call in generation.tool_calls:
        yield _opening(index, _tool_use(call, {}), made)
        for piece in pieces_of(call.arguments):
            made += token_count(piece)
            yield _piece(index, {"type": "input_json_delta", "partial_json": piece}, made)
        yield _closing(index, made)
        index += 1


def _opening(index: int, block: Json, made: int) -> Event:
    return Event(_sse("content_block_start", {"index": index, "content_block": block}), output_tokens=made)


def _piece(index: int, delta: Json, made: int) -> Event:
    data = _sse("content_block_delta", {"index": index, "delta": delta})
    return Event(data, is_content=True, output_tokens=made)


def _closing(index: int, made: int) -> Event:
    return Event(_sse("content_block_stop", {"index": index}), output_tokens=made)


def _sse(kind: str, payload: Json) -> bytes:
    data = json.dumps({"type": kind, **payload}, ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()
