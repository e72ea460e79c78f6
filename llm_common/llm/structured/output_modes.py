"""How a model is asked for structured output, and where in its answer the document is. Pure.

Four modes, chosen by what is known of the model. instructor's handlers do the same, but loading them loads the OpenAI
SDK (`instructor.v2.providers.openai.handlers`: 1,399 modules, 40 times the import of this package), and they come
without strict schemas, so they are left to hosts that want them (`LLMClient.instructor_client`).
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, TypeVar

from llm_common.exceptions import ContentPolicyError, LLMError, StructuredOutputError
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.llm.response_parsing import POLICY_REASONS
from llm_common.llm.structured.schema import OutputSpec, SchemaMismatchError, parse
from llm_common.llm.wire import Route, WireAnswer, WireRequest

__all__ = [
    "FINAL_REASONS",
    "OutputMode",
    "answer_tool",
    "instance_in",
    "misfit",
    "mode_for",
    "reask",
    "unwrapped",
    "with_output",
]

#: `json_schema`: the provider holds the model to the schema. `tools`: the answer is the call of a tool that has the
#: schema as its parameters. `json_object`: it holds the model to JSON; the prompt has the schema. `prompt`: only that.
OutputMode = Literal["json_schema", "tools", "json_object", "prompt"]

T = TypeVar("T")
Messages = tuple[Mapping[str, Any], ...]

#: Why a model stopped, where asking it again would end the same way: cut off by `max_tokens`, or by safety rules.
FINAL_REASONS = POLICY_REASONS | {"length"}
#: Arguments that let a model think; Anthropic refuses to force a tool on a model that does.
_THINKING = frozenset({"reasoning", "reasoning_effort", "thinking"})


def mode_for(route: Route, info: ModelInfo | None) -> OutputMode:
    """By schema where the model is known to hold to one, or nothing is known; else by tools, JSON mode, prompt.

    z.ai documents only `json_object` (https://docs.z.ai/guides/capabilities/struct-output), and its models refuse
    every forced tool, also at OpenRouter. LiteLLM refuses a `response_format` for providers that it knows to have none.
    """
    if route.provider == "zai":
        return "json_object"
    if info is None or info.supports_json_schema is not False:
        return "json_schema"
    if info.supports_tools and not (route.provider == "openrouter" and route.name.startswith("z-ai/")):
        return "tools"
    return "prompt" if route.wire == "litellm" and info.supports_tools is False else "json_object"


def with_output(request: WireRequest, spec: OutputSpec[Any], mode: OutputMode) -> WireRequest:
    """The request that asks for the spec as well.

    In tools mode the caller's own tools stay: the model calls one of them, or the answer's. A `tool_choice` of the
    caller's own stays too, except `"none"`, which leaves only the answer to be called.
    """
    if mode == "json_schema":
        body = {"name": spec.name, "schema": spec.schema, "strict": spec.strict}
        return replace(request, response_format={"type": "json_schema", "json_schema": body})
    if mode == "tools":
        return _with_tool(request, spec)
    instruction = (
        "Answer with one JSON object that fits this JSON schema, and with nothing else:\n"
        f"{json.dumps(spec.schema, ensure_ascii=False)}"
    )
    messages = (*request.messages, {"role": "system", "content": instruction})
    response_format = {"type": "json_object"} if mode == "json_object" else None
    return replace(request, messages=messages, response_format=response_format)


def _with_tool(request: WireRequest, spec: OutputSpec[Any]) -> WireRequest:
    name = answer_tool(spec, request.tools)
    described = "Gives the final answer. Call it as soon as you have the answer, instead of writing text."
    tool = {"type": "function", "function": {"name": name, "description": described, "parameters": spec.schema}}
    choice = request.tool_choice
    if not _THINKING.isdisjoint(request.extra):
        choice = "auto"
    elif choice is None and request.tools:
        choice = "required"
    elif choice is None or choice == "none":
        choice = {"type": "function", "function": {"name": name}}
    return replace(request, tools=(*request.tools, tool), tool_choice=choice)


def answer_tool(spec: OutputSpec[Any], tools: Messages) -> str:
    """The name of the tool that takes the answer: none of the caller's own."""
    taken = {tool.get("function", {}).get("name") for tool in tools}
    name = f"answer_{spec.name}"[:60]
    while name in taken:
        name += "_"
    return name


def unwrapped(spec: OutputSpec[Any], tools: Messages, answer: WireAnswer) -> WireAnswer:
    """The answer with the document as its text, in whatever it came. What is left in `tool_calls` is the caller's."""
    name = answer_tool(spec, tools)
    documents = [call.arguments for call in answer.tool_calls if call.name == name]
    if not documents:
        return answer
    others = tuple(call for call in answer.tool_calls if call.name != name)
    reason = "stop" if answer.finish_reason == "tool_calls" and not others else answer.finish_reason
    return replace(answer, text=documents[0], tool_calls=others, finish_reason=reason)


def instance_in(spec: OutputSpec[T], tools: Messages, answer: WireAnswer) -> T | None:
    """The instance in an unwrapped answer; None where the model wants to call the caller's tools before it answers.

    Raises `SchemaMismatchError`.
    """
    try:
        return parse(spec, answer.text)
    except SchemaMismatchError:
        if answer.tool_calls and tools:
            return None
        raise


def reask(
    messages: Messages, spec: OutputSpec[Any], tools: Messages, answer: WireAnswer, mismatch: SchemaMismatchError
) -> Messages:
    """The conversation that asks once more, with what was wrong; a call of the answer's tool gets it as its result."""
    problems = "\n".join(f"- {problem}" for problem in mismatch.errors)
    complaint = f"That answer does not fit the schema:\n{problems}\nGive the whole answer again."
    name = answer_tool(spec, tools)
    # Some servers give their calls no id, but a result must name one.
    calls = [(call.id or f"answer_{n}", call) for n, call in enumerate(answer.tool_calls) if call.name == name]
    if not calls:
        said = ({"role": "assistant", "content": answer.text},) if answer.text.strip() else ()
        return (*messages, *said, {"role": "user", "content": complaint})
    made = [
        {"id": key, "type": "function", "function": {"name": name, "arguments": call.arguments}} for key, call in calls
    ]
    return (
        *messages,
        {"role": "assistant", "content": answer.text or None, "tool_calls": made},
        *({"role": "tool", "tool_call_id": key, "content": complaint} for key, _ in calls),
    )


def misfit(
    route: Route, spec: OutputSpec[Any], answer: WireAnswer, mismatch: SchemaMismatchError, *, tries: int
) -> LLMError:
    """The error for an answer that does not fit: a cut or a refused one says so, because asking again will not help."""
    reason = answer.finish_reason
    if reason in POLICY_REASONS:
        return ContentPolicyError(
            f"{route.provider}'s safety rules stopped the answer of {route.asked} before it fitted {spec.name} "
            f"(finish reason {reason}). Change the prompt, or use a model with other safety rules.",
            provider=route.provider,
            model=route.asked,
            status=200,
            code=reason,
            request_id=answer.request_id,
        )
    told = f"gave no answer that fits {spec.name} in {tries} {'try' if tries == 1 else 'tries'}"
    advice = f"(finish reason: {reason})"
    if reason == "length":
        told, advice = f"was cut off by max_tokens before its answer fitted {spec.name}", "Raise max_tokens."
    return StructuredOutputError(
        f"{route.asked} {told}: {mismatch} {advice}",
        raw_text=answer.text,
        validation_errors=mismatch.errors,
        provider=route.provider,
        model=route.asked,
        request_id=answer.request_id,
    )
