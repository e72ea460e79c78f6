"""Reading answers in OpenAI's shape: whatever arrives becomes a `WireAnswer`, a `WireChunk` or a typed error. Pure.

Tolerant of what is missing or odd, but nothing is made up: what cannot be read is an `InvalidAnswerError`.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

from pydantic_core import from_json, to_json

from llm_common.exceptions import ContentPolicyError, EmptyAnswerError, InvalidAnswerError, LLMError, ProviderError
from llm_common.llm.error_mapping import classify
from llm_common.llm.error_parsing import error_in
from llm_common.llm.request_encoding import prompt_text
from llm_common.llm.token_usage import cost_in, usage_in
from llm_common.llm.wire import EmbeddingRequest, Route, ToolCallDelta, WireAnswer, WireChunk, WireRequest
from llm_common.models import ToolCall

__all__ = [
    "POLICY_REASONS",
    "answer_in",
    "as_chunk",
    "chunk_in",
    "json_object",
    "judged",
    "reported",
    "unreadable",
]

Json = Mapping[str, Any]

_RAW_TEXT_KEPT = 100_000
#: How providers say that their safety rules stopped an answer (z.ai: `sensitive`).
POLICY_REASONS = frozenset({"content_filter", "sensitive", "refusal"})
#: How they say that they failed after beginning (OpenRouter: `error`, z.ai: `network_error`).
_FAILURE_REASONS = frozenset({"error", "network_error"})


def json_object(route: Route, body: bytes | str) -> Json:
    """A body as a JSON object. Anything else (HTML, cut text, a bare list) is an `InvalidAnswerError`."""
    try:
        # Rejects what json.loads would let through (lone surrogates), and takes 40 % of its time.
        payload: object = from_json(body)
    except ValueError as error:
        raise unreadable(route, "is not JSON, or was cut short", body) from error
    if not isinstance(payload, dict):
        raise unreadable(route, f"is a JSON {type(payload).__name__} instead of an object", body)
    return cast("Json", payload)


def answer_in(request: WireRequest, payload: Json, headers: Mapping[str, str]) -> WireAnswer:
    """The answer in a complete response. Raises the typed error that a 200 may carry, and refuses an empty answer."""
    route = request.route
    if failure := error_in(payload):
        raise reported(request, failure, headers, payload)
    choice = _choice(route, payload)
    message = _object(route, choice.get("message", {}), "message")
    return judged(
        route,
        WireAnswer(
            text=_text(route, message.get("content")),
            tool_calls=_tool_calls(route, message.get("tool_calls")),
            # OpenAI's models refuse in a field of its own, and end with "stop".
            finish_reason="refusal" if message.get("refusal") else _string(choice.get("finish_reason")),
            usage=usage_in(payload),
            cost_usd=cost_in(payload),
            answered_by=_string(payload.get("model")) or route.name,
            request_id=_string(payload.get("id")) or _string(headers.get("x-request-id")),
            raw=payload,
        ),
    )


def chunk_in(request: WireRequest, payload: Json, headers: Mapping[str, str]) -> WireChunk:
    """One event of a stream. Raises the typed error that an event may carry."""
    route = request.route
    choices: Any = payload.get("choices")
    choice: Any = cast("list[Any]", choices)[0] if isinstance(choices, list) and choices else None
    if "error" in payload or not isinstance(choice, dict) or "error" in choice:
        return _odd_chunk(request, payload, headers)
    delta: Any = cast("Json", choice).get("delta") or {}
    if not isinstance(delta, dict):
        raise _malformed(route, "delta", payload)
    fields = cast("Json", delta)
    content, calls = fields.get("content"), fields.get("tool_calls")
    return WireChunk(
        text=content if isinstance(content, str) else _text(route, content),
        reasoning=_string(fields.get("reasoning_content")) or _string(fields.get("reasoning")) or "",
        tool_calls=_deltas(route, calls) if calls else (),
        finish_reason="refusal" if fields.get("refusal") else _string(cast("Json", choice).get("finish_reason")),
        usage=usage_in(payload) if payload.get("usage") else None,
        cost_usd=cost_in(payload) if payload.get("usage") else None,
        answered_by=_string(payload.get("model")),
        request_id=_string(payload.get("id")),
    )


def as_chunk(answer: WireAnswer) -> WireChunk:
    """A complete answer as the only piece of a stream, for servers that do not stream."""
    return WireChunk(
        text=answer.text,
        tool_calls=tuple(
            ToolCallDelta(index=index, id=call.id, name=call.name, arguments=call.arguments)
            for index, call in enumerate(answer.tool_calls)
        ),
        finish_reason=answer.finish_reason,
        usage=answer.usage,
        cost_usd=answer.cost_usd,
        answered_by=answer.answered_by,
        request_id=answer.request_id,
    )


def judged(route: Route, answer: WireAnswer) -> WireAnswer:
    """The answer itself where the model said something; else the error that says why it did not.

    Raises `ContentPolicyError`, `ProviderError` or `EmptyAnswerError`, with the usage and the price that were reported.
    """
    if answer.text.strip() or answer.tool_calls:
        return answer
    reason = answer.finish_reason
    kind, advice = EmptyAnswerError, "Ask again, or use another model."
    if reason in POLICY_REASONS:
        kind, advice = ContentPolicyError, "Change the prompt, or use a model with other safety rules."
    elif reason in _FAILURE_REASONS:
        kind, advice = ProviderError, "Try again later, or use another model."
    elif reason == "length":
        advice = "Its reasoning used up max_tokens; raise max_tokens or lower the reasoning effort."
    raise kind(
        f"{route.provider} sent an answer of {route.name} without any text (finish reason {reason}). {advice}",
        provider=route.provider,
        model=route.name,
        status=200,
        code=reason,
        request_id=answer.request_id,
        maybe_billed=True,
        usage=answer.usage,
        cost_usd=answer.cost_usd or Decimal(0),
    )


def _odd_chunk(request: WireRequest, payload: Json, headers: Mapping[str, str]) -> WireChunk:
    """An event without a choice (usage at the end, a keep-alive), or with an `error`, which may be null."""
    if failure := error_in(payload):
        raise reported(request, failure, headers, payload)
    choices = payload.get("choices")
    if choices is not None and not isinstance(choices, list):
        raise _malformed(request.route, "choices", payload)
    if choices:
        choice = _object(request.route, cast("list[object]", choices)[0], "choice")
        return chunk_in(request, {**_without_error(payload), "choices": [_without_error(choice)]}, headers)
    return WireChunk(
        usage=usage_in(payload),
        cost_usd=cost_in(payload),
        answered_by=_string(payload.get("model")),
        request_id=_string(payload.get("id")),
    )


def _without_error(fields: Json) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "error"}


def reported(
    request: WireRequest | EmbeddingRequest, failure: Json, headers: Mapping[str, str], payload: Json
) -> LLMError:
    """The typed error that a 200 carries, with what it says was used and paid all the same."""
    route = request.route
    error = classify(
        route.provider, 200, headers, failure, model=route.name, api_key=route.api_key, sent=prompt_text(request)
    )
    error.usage = usage_in(payload)
    error.cost_usd = cost_in(payload) or Decimal(0)
    error.request_id = error.request_id or _string(payload.get("id"))
    return error


def _choice(route: Route, payload: Json) -> Json:
    choices = payload.get("choices")
    if choices is not None and not isinstance(choices, list):
        raise _malformed(route, "choices", payload)
    if choices:
        return _object(route, cast("list[object]", choices)[0], "choice")
    if "choices" not in payload:
        raise _malformed(route, "choices", payload)
    return {}


def _object(route: Route, value: object, name: str) -> Json:
    if not isinstance(value, dict):
        raise _malformed(route, name, value)
    return cast("Json", value)


def _text(route: Route, content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _malformed(route, "content", content)
    # Parts that are not text (images, thinking) stay in `raw`.
    parts = [cast("Json", part) for part in cast("list[object]", content) if isinstance(part, dict)]
    texts = [part.get("text") for part in parts if part.get("type") in {"text", "output_text"}]
    return "".join(text for text in texts if isinstance(text, str))


def _tool_calls(route: Route, calls: object) -> tuple[ToolCall, ...]:
    if not calls:
        return ()
    if not isinstance(calls, list):
        raise _malformed(route, "tool_calls", calls)
    return tuple(_tool_call(route, call) for call in cast("list[object]", calls))


def _tool_call(route: Route, call: object) -> ToolCall:
    fields = _object(route, call, "tool call")
    function = _object(route, fields.get("function"), "tool call's function")
    name = _string(function.get("name"))
    if name is None:
        raise _malformed(route, "tool call's name", call)
    return ToolCall(
        id=_string(fields.get("id")) or "", name=name, arguments=_arguments(route, function.get("arguments"))
    )


def _deltas(route: Route, calls: object) -> tuple[ToolCallDelta, ...]:
    if not isinstance(calls, list):
        raise _malformed(route, "tool_calls", calls)
    return tuple(_delta(route, call, position) for position, call in enumerate(cast("list[object]", calls)))


def _delta(route: Route, call: object, position: int) -> ToolCallDelta:
    fields = _object(route, call, "tool call")
    function = _object(route, fields.get("function") or {}, "tool call's function")
    index = fields.get("index")
    return ToolCallDelta(
        index=index if isinstance(index, int) and not isinstance(index, bool) else position,
        id=_string(fields.get("id")),
        name=_string(function.get("name")),
        arguments=_arguments(route, function.get("arguments")),
    )


def _arguments(route: Route, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):  # Ollama sends the object itself
        return to_json(cast("dict[str, Any]", value)).decode()
    raise _malformed(route, "tool call's arguments", value)


def _string(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _malformed(route: Route, what: str, value: object) -> InvalidAnswerError:
    return unreadable(route, f"has no usable {what}", to_json(value, fallback=str))


def unreadable(route: Route, problem: str, body: bytes | str) -> InvalidAnswerError:
    """The error for an answer that `problem`."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    return InvalidAnswerError(
        f"the answer of {route.provider} for {route.name} {problem} ({len(body)} characters; see raw_text). "
        "Check the base URL, or try again.",
        provider=route.provider,
        model=route.name,
        status=200,
        maybe_billed=True,
        raw_text=text[:_RAW_TEXT_KEPT],
    )
