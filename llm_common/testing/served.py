"""A finished answer as bytes, whole and in pieces, with what each piece costs; and the faults that change its words."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from llm_common.models import ToolCall
from llm_common.testing import anthropic_wire, openai_answer
from llm_common.testing.errors import Problem, error_answer
from llm_common.testing.faults import Fault
from llm_common.testing.generation import Generation, cost_so_far
from llm_common.testing.wire import ChatRequest, Json, ProviderName, Reply

__all__ = ["Chunk", "Served", "altered_reply", "serve_chat", "serve_list"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes that are written at once. `cost_usd`: what is billed once they are out. `counts`: a content delta."""

    data: bytes
    counts: bool = False
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a request gets when nothing goes wrong. `events` is None where the answer is one body."""

    provider: ProviderName
    model: str
    payload: bytes
    events: tuple[Chunk, ...] | None
    cost_usd: Decimal
    error_event: Callable[[Problem], bytes]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    delay: float = 0.0
    seconds_per_chunk: float = 0.0


def serve_chat(generation: Generation, reply: Reply) -> Served:
    """A chat answer, as a stream where the request asked for one."""
    wire = anthropic_wire if generation.request.provider == "anthropic" else openai_answer
    rendered = (
        anthropic_wire.render_messages(generation)
        if generation.request.provider == "anthropic"
        else openai_answer.render_chat(generation)
    )
    events: tuple[Chunk, ...] | None = None
    if generation.request.stream:
        chunks = [
            Chunk(event.data, event.is_content, cost_so_far(generation, event.output_tokens))
            for event in rendered.events
        ]
        # Whoever got the last event got everything, also an answer of no tokens at all.
        events = (*chunks[:-1], replace(chunks[-1], cost_usd=generation.cost_usd))
    return Served(
        provider=generation.request.provider,
        model=generation.request.model,
        payload=_encoded(rendered.body),
        events=events,
        cost_usd=generation.cost_usd,
        error_event=lambda problem: wire.stream_error(generation, problem),
        headers=reply.headers,
        delay=reply.delay,
        seconds_per_chunk=reply.seconds_per_chunk,
    )


def serve_list(
    provider: ProviderName,
    model: str,
    body: Json,
    list_key: str,
    *,
    cost_usd: Decimal,
    fault: Fault | None = None,
) -> Served:
    """An answer that is a list under `list_key` (search results, embeddings), spoilt by `fault` where that fits."""
    payload = _encoded(body)
    if fault is not None:
        payload = _spoilt(body, list_key, fault)
    return Served(
        provider=provider,
        model=model,
        payload=payload,
        events=None,
        cost_usd=cost_usd,
        error_event=lambda problem: _encoded(error_answer(provider, problem, "").body),
    )


def _spoilt(body: Json, list_key: str, fault: Fault) -> bytes:
    if fault.name == "empty_choices":
        return _encoded({**body, list_key: []})
    if fault.name == "empty_content":
        return _encoded({key: value for key, value in body.items() if key != list_key})
    if fault.name == "wrong_schema":
        return _encoded({**body, list_key: {"items": "not a list"}})
    if fault.name == "code_fenced":
        return _fenced(json.dumps(body)).encode()
    return _encoded(body)


def altered_reply(fault: Fault, reply: Reply, request: ChatRequest) -> Reply:
    """`reply` as it is when the model misbehaves in the way of `fault`."""
    if fault.name == "empty_content":
        return replace(reply, text="", tool_calls=(), finish_reason="stop", pieces=None)
    if fault.name == "wrong_schema":
        return _reworded(reply, lambda _: _misfit(request))
    if fault.name == "code_fenced":
        return _reworded(reply, _fenced)
    if fault.name == "content_filter_finish":
        shown = (reply.text or "")[: len(reply.text or "") // 2]
        return replace(reply, text=shown, tool_calls=(), finish_reason="content_filter", pieces=None)
    return reply


def _reworded(reply: Reply, change: Callable[[str], str]) -> Reply:
    text = None if reply.text is None else change(reply.text)
    calls: Sequence[ToolCall] = [replace(call, arguments=change(call.arguments)) for call in reply.tool_calls]
    return replace(reply, text=text, tool_calls=tuple(calls), pieces=None)


def _misfit(request: ChatRequest) -> str:
    """JSON that no instance of the schema looks like: an object without what is required, else a list."""
    schema: Mapping[str, Any] = request.schema or {}
    return json.dumps({"unexpected": True} if schema.get("required") else ["unexpected"])


def _fenced(text: str) -> str:
    return f"Here is the answer:\n\n```json\n{text}\n```\n"


def _encoded(body: Json) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()
