"""Chat answers in OpenAI's format, with what OpenRouter and z.ai add to it.

Sources: https://platform.openai.com/docs/api-reference/chat-streaming, https://openrouter.ai/docs/api/reference/streaming,
https://docs.z.ai/api-reference/llm/chat-completion
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from llm_common.models import ToolCall
from llm_common.testing.billing import token_count
from llm_common.testing.errors import Problem, error_answer
from llm_common.testing.generation import Event, Generation, Rendered, pieces_of
from llm_common.testing.wire import Json

__all__ = ["render_chat", "stream_error"]

_DONE: Final = b"data: [DONE]\n\n"


def render_chat(generation: Generation) -> Rendered:
    return Rendered(body=_body(generation), events=tuple(_events(generation)))


def stream_error(generation: Generation, problem: Problem) -> bytes:
    """The event that tells of an error after the stream has begun."""
    error: Any = error_answer(generation.request.provider, problem, _id(generation)).body["error"]
    if generation.request.provider != "openrouter":
        return _sse({"error": error})
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
    return _sse({**_chunk(generation, [choice]), "error": error})


def _body(generation: Generation) -> Json:
    choice: Json = {
        "index": 0,
        "message": _message(generation),
        "finish_reason": _finish_reason(generation),
        "logprobs": None,
    }
    if generation.request.provider == "openrouter":
        choice["native_finish_reason"] = generation.finish_reason
    body = _envelope(generation, "chat.completion")
    body["choices"] = [] if generation.no_choices else [choice]
    body["usage"] = _usage(generation)
    if generation.request.provider == "zai" and generation.results is not None:
        body["web_search"] = [dict(result) for result in generation.results]
    return body


def _message(generation: Generation) -> Json:
    message: Json = {"role": "assistant", "content": generation.text}
    if generation.tool_calls:
        message["tool_calls"] = [_tool_call(call) for call in generation.tool_calls]
    message |= _reasoning(generation, generation.reasoning)
    if generation.request.provider != "zai":
        message["refusal"] = None
    return message


def _reasoning(generation: Generation, text: str | None) -> Json:
    """z.ai and OpenRouter show what the model thought; OpenAI only counts it."""
    key = {"zai": "reasoning_content", "openrouter": "reasoning"}.get(generation.request.provider)
    return {key: text} if key and text else {}


def _tool_call(call: ToolCall) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _finish_reason(generation: Generation) -> str:
    if generation.request.provider == "zai" and generation.finish_reason == "content_filter":
        return "sensitive"
    return generation.finish_reason


def _id(generation: Generation) -> str:
    prefix = {"openrouter": "gen-", "zai": "2026112100"}.get(generation.request.provider, "chatcmpl-")
    return f"{prefix}{generation.number:012d}"


def _envelope(generation: Generation, kind: str) -> Json:
    envelope: Json = {"id": _id(generation), "object": kind, "created": generation.created}
    envelope["model"] = generation.answered_by
    if generation.request.provider == "openai":
        envelope |= {"service_tier": "default", "system_fingerprint": "fp_000000000000"}
    elif generation.request.provider == "openrouter":
        envelope["provider"] = "Upstream"
    else:
        envelope["request_id"] = _id(generation)
    return envelope


def _usage(generation: Generation) -> Json:
    usage = generation.usage
    counts: Json = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    if usage.cache_write_tokens:
        counts["prompt_tokens_details"]["cache_write_tokens"] = usage.cache_write_tokens
    if generation.request.provider == "openrouter":
        # A JSON number: the shortest decimal that reads back as the same float.
        counts |= {"cost": float(generation.cost_usd), "is_byok": False}
    return counts


def _events(generation: Generation) -> Iterator[Event]:
    provider = generation.request.provider
    if provider == "openrouter":
        yield Event(b": OPENROUTER PROCESSING\n\n")
    if not generation.no_choices:
        yield from _choice_events(generation)
    total = generation.usage.output_tokens
    if _wants_usage(generation):
        yield Event(_sse({**_chunk(generation, []), "usage": _usage(generation)}), output_tokens=total)
    yield Event(_DONE, output_tokens=total)


def _choice_events(generation: Generation) -> Iterator[Event]:
    provider = generation.request.provider
    if provider != "zai":
        yield Event(_delta(generation, {"role": "assistant", "content": "", "refusal": None}))
    made = 0
    for piece in pieces_of(generation.reasoning or ""):
        made += token_count(piece)
        if delta := _reasoning(generation, piece):
            yield Event(_delta(generation, delta), output_tokens=made)
    for piece in generation.pieces:
        made += token_count(piece)
        yield Event(_delta(generation, {"content": piece}), is_content=True, output_tokens=made)
    for index, call in enumerate(generation.tool_calls):
        opening: Json = {"index": index, **_tool_call(ToolCall(call.id, call.name, ""))}
        yield Event(_delta(generation, {"tool_calls": [opening]}), output_tokens=made)
        for piece in pieces_of(call.arguments):
            made += token_count(piece)
            part: Json = {"index": index, "function": {"arguments": piece}}
            yield Event(_delta(generation, {"tool_calls": [part]}), is_content=True, output_tokens=made)
    yield Event(_last_delta(generation), output_tokens=generation.usage.output_tokens)


def _delta(generation: Generation, delta: Json, finish_reason: str | None = None) -> bytes:
    return _sse(_chunk(generation, [_choice(generation, delta, finish_reason)]))


def _last_delta(generation: Generation) -> bytes:
    if generation.request.provider != "zai":
        return _delta(generation, {}, _finish_reason(generation))
    # z.ai sends the usage along with the finish reason, whether it was asked to or not.
    choice = _choice(generation, {"role": "assistant", "content": ""}, _finish_reason(generation))
    chunk = {**_chunk(generation, [choice]), "usage": _usage(generation)}
    if generation.results is not None:
        chunk["web_search"] = [dict(result) for result in generation.results]
    return _sse(chunk)


def _choice(generation: Generation, delta: Json, finish_reason: str | None) -> Json:
    if generation.request.provider == "zai":
        delta = {"role": "assistant", **delta}
    choice: Json = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
    if generation.request.provider == "openrouter":
        choice["native_finish_reason"] = finish_reason
    return choice


def _chunk(generation: Generation, choices: list[Json]) -> Json:
    chunk = {**_envelope(generation, "chat.completion.chunk"), "choices": choices}
    if generation.request.provider == "openai" and _wants_usage(generation):
        chunk["usage"] = None
    return chunk


def _wants_usage(generation: Generation) -> bool:
    """OpenAI sends a usage event when it is asked to, OpenRouter always; z.ai has it in its last delta."""
    provider = generation.request.provider
    options: Json = generation.request.raw.get("stream_options") or {}
    return provider == "openrouter" or (provider == "openai" and bool(options.get("include_usage")))


def _sse(chunk: Json) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"
