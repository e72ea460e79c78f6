"""Chat requests in OpenAI's format, as OpenAI, OpenRouter and z.ai take and refuse them.

Sources: https://platform.openai.com/docs/api-reference/chat/create, https://openrouter.ai/docs/api/reference/overview,
https://docs.z.ai/api-reference/llm/chat-completion
"""

import re
from collections.abc import Mapping
from typing import Any, Final

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
from llm_common.testing.errors import Problem, Refusal
from llm_common.testing.schemas import schema_in_text, strictness_error
from llm_common.testing.wire import ChatRequest, Json, ProviderName, text_of

__all__ = ["parse_chat"]

_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_ZAI_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})
_SCHEMA_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def parse_chat(provider: ProviderName, body: Json) -> ChatRequest:
    """The request that `body` holds; raises `Refusal` where the service would not take it."""
    model = a_text(body, "model")
    messages = a_list(body, "messages", required=True)
    for index, message in enumerate(messages):
        _check_message(provider, message, index)
    tools = a_list(body, "tools", required=False) if body.get("tools") else []
    for index, tool in enumerate(tools):
        _check_tool(provider, tool, index)
    stream = a_flag(body, "stream")
    if provider == "openai" and body.get("stream_options") is not None:
        refuse_unless(
            stream,
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
            parameter="stream_options",
        )
    _check_temperature(provider, body.get("temperature"))
    schema, json_mode = _response_format(provider, body, messages)
    forced = _forced_tool(provider, model, body.get("tool_choice"), tools)
    return ChatRequest(
        provider=provider,
        model=model,
        messages=tuple(messages),
        schema=_parameters(tools, forced) if forced else schema,
        tools=tuple(tools),
        forced_tool=forced,
        json_mode=json_mode,
        max_tokens=_max_tokens(provider, body),
        stream=stream,
        raw=body,
    )


def _check_message(provider: ProviderName, message: Json, index: int) -> None:
    slot = f"messages[{index}]"
    role = message.get("role")
    refuse_unless(role is not None, f"Missing required parameter: '{slot}.role'.", parameter=f"{slot}.role")
    one_of(role, _ZAI_ROLES if provider == "zai" else _ROLES, f"{slot}.role")
    content: Any = message.get("content")
    may_be_silent = role == "assistant" and bool(message.get("tool_calls"))
    refuse_unless(
        isinstance(content, str) or is_list_of_objects(content) or (content is None and may_be_silent),
        f"Invalid value for '{slot}.content': expected a string or an array of parts.",
        parameter=f"{slot}.content",
    )
    if role == "tool":
        refuse_unless(
            message.get("tool_call_id"),
            f"Missing required parameter: '{slot}.tool_call_id'.",
            parameter=f"{slot}.tool_call_id",
        )


def _check_tool(provider: ProviderName, tool: Json, index: int) -> None:
    kind = tool.get("type")
    if provider != "openai" and kind != "function":
        refuse_unless(isinstance(kind, str), f"Missing required parameter: 'tools[{index}].type'.")
        return
    one_of(kind, {"function"}, f"tools[{index}].type")
    function = an_object(tool, "function")
    refuse_unless(
        function.get("name"),
        f"Missing required parameter: 'tools[{index}].function.name'.",
        parameter=f"tools[{index}].function.name",
    )
    if provider == "openai" and function.get("strict"):
        error = strictness_error(function.get("parameters") or {}, all_required=True)
        refuse_unless(
            error is None,
            f"Invalid schema for function '{function['name']}': {error}",
            parameter=f"tools[{index}].function.parameters",
        )


def _check_temperature(provider: ProviderName, temperature: Any) -> None:
    high = 1 if provider == "zai" else 2
    refuse_unless(
        temperature is None or (isinstance(temperature, (int, float)) and 0 <= temperature <= high),
        f"Invalid 'temperature': expected a number between 0 and {high}.",
        parameter="temperature",
    )


def _max_tokens(provider: ProviderName, body: Json) -> int | None:
    bounds = [a_count(body, name, low=1) for name in ("max_tokens", "max_completion_tokens")]
    # z.ai knows max_tokens alone, and passes the newer name over in silence.
    return bounds[0] if provider == "zai" or bounds[1] is None else bounds[1]


def _response_format(provider: ProviderName, body: Json, messages: list[Json]) -> tuple[Mapping[str, Any] | None, bool]:
    """The schema that the answer has to fit, and whether it has to be JSON at all."""
    wanted = an_object(body, "response_format")
    if not wanted:
        return None, False
    one_of(wanted.get("type"), {"text", "json_object", "json_schema"}, "response_format.type")
    words = "\n".join(text_of(message) for message in messages)
    if wanted["type"] == "json_object":
        refuse_unless(
            provider != "openai" or "json" in words.lower(),
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            parameter="messages",
        )
        return schema_in_text(words), True
    if wanted["type"] == "json_schema" and provider != "zai":
        return _json_schema(provider, an_object(wanted, "json_schema")), True
    # z.ai has no json_schema mode: it takes the parameter, and answers in prose.
    return None, False


def _json_schema(provider: ProviderName, wanted: Json) -> Mapping[str, Any]:
    slot = "response_format.json_schema"
    name = wanted.get("name")
    refuse_unless(name, f"Missing required parameter: '{slot}.name'.", parameter=f"{slot}.name")
    refuse_unless(
        isinstance(name, str) and _SCHEMA_NAME.fullmatch(name),
        f"Invalid '{slot}.name': expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.",
        parameter=f"{slot}.name",
    )
    schema = an_object(wanted, "schema")
    refuse_unless(schema, f"Missing required parameter: '{slot}.schema'.", parameter=f"{slot}.schema")
    if provider == "openai" and wanted.get("strict"):
        error = strictness_error(schema, all_required=True)
        refuse_unless(
            error is None,
            f"Invalid schema for response_format '{name}': {error}",
            parameter="response_format",
        )
    return schema


def _forced_tool(provider: ProviderName, model: str, choice: Any, tools: list[Json]) -> str | None:
    """The name of the tool that has to be called; None where the model may choose."""
    if choice is None or choice == "auto":
        return None
    if provider == "zai" or (provider == "openrouter" and model.startswith("z-ai/")):
        # Measured by many: the GLM endpoints accept nothing but "auto".
        code = "Z.AI" if provider == "openrouter" else None
        raise Refusal(Problem(kind="invalid_request", message="Tool choice must be auto", code=code))
    if choice == "none":
        return None
    names = [_tool_name(tool) for tool in tools]
    refuse_unless(names, "'tool_choice' is only allowed when 'tools' are specified.", parameter="tool_choice")
    if choice == "required":
        return names[0]
    name = an_object(an_object({"tool_choice": choice}, "tool_choice"), "function").get("name")
    refuse_unless(
        name in names,
        f"Tool choice '{name}' not found in 'tools' parameter.",
        parameter="tool_choice",
    )
    return str(name)


def _tool_name(tool: Json) -> str:
    return str(an_object(tool, "function").get("name", ""))


def _parameters(tools: list[Json], name: str) -> Mapping[str, Any] | None:
    chosen = next(tool for tool in tools if _tool_name(tool) == name)
    return chosen["function"].get("parameters")
