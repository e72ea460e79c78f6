"""Answers in OpenAI's shape: whatever arrives becomes a `WireAnswer`, a `WireChunk` or a typed error. Pure.

Tolerant of what is missing or odd, but nothing is made up: what cannot be read is an `InvalidAnswerError`.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

from pydantic_core import to_json

from llm_common.exceptions import ContentPolicyError, EmptyAnswerError, InvalidAnswerError, LLMError, ProviderError
from llm_common.llm.error_mapping import classify
from llm_common.llm.error_parsing import error_in
from llm_common.llm.json_text import unreadable
from llm_common.llm.request_encoding import prompt_text
from llm_common.llm.token_usage import cost_in, plausible, usage_in
from llm_common.llm.wire import EmbeddingRequest, Route, ToolCallDelta, WireAnswer, WireChunk, WireRequest
from llm_common.models import ToolCall
from llm_common.usage import Usage

__all__ = [
    "POLICY_REASONS",
    "answer_in",
    "as_chunk",
    "chunk_in",
    "failed_midway",
    "is_failure",
    "judged",
    "reported",
]

Json = Mapping[str, Any]

#: How providers say that their safety rules stopped an answer (z.ai: `sensitive`).
POLICY_REASONS = frozenset({"content_filter", "sensitive", "refusal"})
#: How they say that they failed after beginning (OpenRouter: `error`, z.ai: `network_error`).
_FAILURE_REASONS = frozenset({"error", "network_error"})


def answer_in(request: WireRequest, payload: Json, headers: Mapping[str, str]) -> WireAnswer:
    """The answer in a complete response. Raises the typed error that a 200 may carry, and refuses an empty answer."""
    route = request.route
    if failure := error_in(payload):
        raise reported(request, failure, headers, payload)
    choice = _choice(route, payload)
    message = _object(route, choice.get("message", {}), "message")
    text, calls = _text(route, message.get("content")) or _transcript(message), _tool_calls(route, message)
    media = _has_media(message)
    worked = bool(text or calls or media or _thought(message))
    answer = WireAnswer(
        text=text,
        tool_calls=calls,
        # OpenAI's models refuse in a field of its own, and end with "stop".
        finish_reason="refusal" if message.get("refusal") else _string(choice.get("finish_reason")),
        usage=plausible(usage_in(payload), answered=worked),
        cost_usd=cost_in(payload, route.provider),
        answered_by=_string(payload.get("model")) or route.name,
        request_id=_string(payload.get("id")) or _string(headers.get("x-request-id")),
        raw=payload,
    )
    return answer if media and not is_failure(answer.finish_reason) else judged(route, answer)


def chunk_in(request: WireRequest, payload: Json, headers: Mapping[str, str]) -> WireChunk:
    """One event of a stream. Raises the typed error that an event may carry."""
    route = request.route
    choices: Any = payload.get("choices")
    choice: Any = cast("list[Any]", choices)[0] if isinstance(choices, list) and choices else None
    if "error" in payload or not isinstance(choice, dict) or "error" in choice:
        return _odd_chunk(request, payload, headers)
    if cast("Json", choice).get("index") and _several(request):
        return _odd_chunk(request, {**payload, "choices": _first_choices(cast("list[object]", choices))}, headers)
    # Servers that stream an answer in one piece may call it what it is called in whole ones.
    delta: Any = cast("Json", choice).get("delta" if "delta" in choice else "message") or {}
    if not isinstance(delta, dict):
        raise _malformed(route, "delta", payload)
    fields = cast("Json", delta)
    content = fields.get("content")
    told = payload.get("usage")
    return WireChunk(
        text=(content if isinstance(content, str) else _text(route, content)) or _transcript(fields),
        reasoning=_thought(fields),
        tool_calls=_deltas(route, fields),
        media=_has_media(fields),
        finish_reason="refusal" if fields.get("refusal") else _string(cast("Json", choice).get("finish_reason")),
        usage=usage_in(payload) if told else None,
        cost_usd=cost_in(payload, route.provider) if told else None,
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
        media=not (answer.text or answer.tool_calls),
        finish_reason=answer.finish_reason,
        usage=answer.usage,
        cost_usd=answer.cost_usd,
        answered_by=answer.answered_by,
        request_id=answer.request_id,
    )


def judged(route: Route, answer: WireAnswer, *, media: bool = False) -> WireAnswer:
    """The answer itself where the model said something; else the error that says why it did not.

    Raises `ContentPolicyError`, `ProviderError` or `EmptyAnswerError`, with the usage and the price that were reported.
    `media`: there were pictures or sound that this answer cannot hold.
    """
    reason = answer.finish_reason
    if is_failure(reason):
        raise failed_midway(route, reason, usage=answer.usage, cost_usd=answer.cost_usd)
    if answer.text.strip() or answer.tool_calls:
        return answer
    kind, advice, again = EmptyAnswerError, "Ask again, or use another model.", True
    if reason in POLICY_REASONS:
        kind, advice, again = ContentPolicyError, "Change the prompt, or use a model with other safety rules.", False
    elif media:
        advice, again = "There were pictures or sound; ask with complete(), whose `raw` has them.", False
    elif reason == "length":
        advice, again = "Its reasoning used up max_tokens; raise max_tokens or lower the reasoning effort.", False
    error = kind(
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
    # Asked again it would end the same way, and be paid again.
    error.retryable = again
    raise error


def is_failure(reason: str | None) -> bool:
    """Whether a finish reason says that the provider failed."""
    return reason in _FAILURE_REASONS


def failed_midway(route: Route, reason: str | None, *, usage: Usage | None, cost_usd: Decimal | None) -> ProviderError:
    """The error for an answer whose provider failed after the model had begun."""
    return ProviderError(
        f"{route.provider} failed before {route.name} had answered (finish reason {reason}). "
        "Try again later, or use another model.",
        provider=route.provider,
        model=route.name,
        status=200,
        code=reason,
        maybe_billed=True,
        usage=usage,
        cost_usd=cost_usd or Decimal(0),
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
        cost_usd=cost_in(payload, request.route.provider),
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
    error.cost_usd = cost_in(payload, route.provider) or Decimal(0)
    error.request_id = error.request_id or _string(payload.get("id"))
    return error


def _choice(route: Route, payload: Json) -> Json:
    choices = payload.get("choices")
    if choices is not None and not isinstance(choices, list):
        raise _malformed(route, "choices", payload)
    if choices:
        every = cast("list[object]", choices)
        return _object(route, (_first_choices(every) or every)[0], "choice")
    if "choices" not in payload:
        raise _malformed(route, "choices", payload)
    return {}


def _first_choices(choices: list[object]) -> list[object]:
    """Those that belong to the first of the answers that were asked for."""
    return [choice for choice in choices if isinstance(choice, dict) and not cast("Json", choice).get("index")]


def _several(request: WireRequest) -> bool:
    """Whether several answers were asked for. Old servers count tokens in `index`, so it says nothing otherwise."""
    return request.answers > 1


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


def _transcript(message: Json) -> str:
    """The words of an answer that is sound."""
    sound = message.get("audio")
    return _string(cast("Json", sound).get("transcript")) or "" if isinstance(sound, dict) else ""


def _has_media(message: Json) -> bool:
    """Whether there are pictures or sound in a message; they stay in `raw`."""
    return bool(message.get("images") or message.get("audio"))


def _thought(message: Json) -> str:
    return _string(message.get("reasoning_content")) or _string(message.get("reasoning")) or ""


def _calls(route: Route, message: Json) -> list[object]:
    """The tool calls of a message, or of a piece of one; `function_call` is OpenAI's form of before."""
    calls: object = message.get("tool_calls")
    if not calls:
        single = message.get("function_call")
        return [{"function": single}] if single else []
    if not isinstance(calls, list):
        raise _malformed(route, "tool_calls", calls)
    return cast("list[object]", calls)


def _tool_calls(route: Route, message: Json) -> tuple[ToolCall, ...]:
    return tuple(_tool_call(route, call) for call in _calls(route, message))


def _tool_call(route: Route, call: object) -> ToolCall:
    fields = _object(route, call, "tool call")
    called = _called(route, fields)
    name = _string(called.get("name"))
    if name is None:
        raise _malformed(route, "tool call's name", call)
    return ToolCall(id=_string(fields.get("id")) or "", name=name, arguments=_arguments(route, called))


def _called(route: Route, call: Json) -> Json:
    """The function, or the custom tool, that is called."""
    return _object(route, call.get("function") or call.get("custom") or {}, "tool call's function")


def _deltas(route: Route, message: Json) -> tuple[ToolCallDelta, ...]:
    if "tool_calls" not in message and "function_call" not in message:
        return ()
    return tuple(_delta(route, call, position) for position, call in enumerate(_calls(route, message)))


def _delta(route: Route, call: object, position: int) -> ToolCallDelta:
    fields = _object(route, call, "tool call")
    called, index = _called(route, fields), fields.get("index")
    return ToolCallDelta(
        index=index if isinstance(index, int) and not isinstance(index, bool) else position,
        id=_string(fields.get("id")),
        name=_string(called.get("name")),
        arguments=_arguments(route, called),
    )


def _arguments(route: Route, called: Json) -> str:
    value: object = called.get("arguments", called.get("input"))
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
