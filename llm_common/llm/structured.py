"""Structured output: a Python type → what the provider is asked for, and its answer → an instance. Pure.

Nothing is filled in or repaired: an answer that does not validate is asked for again with the validation errors, and in
the end raises `StructuredOutputError` with the raw text.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from llm_common.exceptions import InvalidInputError

__all__ = [
    "OutputMode",
    "OutputSpec",
    "SchemaMismatchError",
    "mode_for",
    "output_spec",
    "parse",
    "reask",
    "with_output",
]

T = TypeVar("T")
Schema: TypeAlias = dict[str, Any]

#: `json_schema`: the provider holds the model to the schema. `json_object`: only to JSON; the prompt has the schema.
OutputMode = Literal["json_schema", "json_object"]

_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL)
_MAX_ERRORS = 12


@dataclass(frozen=True, slots=True)
class OutputSpec(Generic[T]):
    """A requested type. `wrapped`: its schema is not an object, so the answer is `{"value": ...}`."""

    name: str
    schema: Mapping[str, Any]
    strict: bool
    wrapped: bool
    adapter: TypeAdapter[T]


class SchemaMismatchError(Exception):
    """One answer did not fit. `errors` are sentences that a model can act on."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = tuple(errors)


@lru_cache(maxsize=256)
def output_spec(response_model: Any) -> OutputSpec[Any]:
    """The spec of a Pydantic model, a `list[Model]`, a union, an enum, or whatever else Pydantic validates."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(response_model)
        schema = _with_object_at_its_root(adapter.json_schema())
    except PydanticUserError as error:
        raise InvalidInputError(
            f"response_model {response_model!r} has no JSON schema; use a Pydantic model or a list or union of them"
        ) from error
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", getattr(response_model, "__name__", "answer"))[:64]
    is_object = isinstance(response_model, type) and issubclass(response_model, BaseModel)
    if not is_object:
        definitions = schema.pop("$defs", None)
        schema = {"type": "object", "properties": {"value": schema}, "required": ["value"]}
        if definitions:
            schema["$defs"] = definitions
    strict = _can_be_strict(schema)
    return OutputSpec(name, _strict(schema) if strict else schema, strict, not is_object, adapter)


def _with_object_at_its_root(schema: Schema) -> Schema:
    """A recursive model's schema is a bare reference to one of its definitions; providers want the object itself."""
    definitions = schema.get("$defs", {})
    name = schema.get("$ref", "").removeprefix("#/$defs/")
    return {**definitions[name], "$defs": definitions} if name in definitions else schema


def _can_be_strict(schema: Schema) -> bool:
    """Strict mode has no objects with free keys (https://platform.openai.com/docs/guides/structured-outputs)."""
    free_keys = schema.get("type") == "object" and (schema.get("additionalProperties") or "properties" not in schema)
    return not free_keys and all(map(_can_be_strict, _children(schema)))


def _children(schema: Schema) -> Iterator[Schema]:
    for keyword in ("properties", "$defs"):
        yield from schema.get(keyword, {}).values()
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        yield from schema.get(keyword, [])
    if isinstance(schema.get("items"), dict):
        yield schema["items"]


def _strict(schema: Schema) -> Schema:
    """Every property required, none beside them: what strict mode asks of each object."""
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}  # strict mode lets nothing stand beside a reference
    # A default would let the model leave the property out.
    result = {keyword: value for keyword, value in schema.items() if keyword != "default"}
    for keyword in ("properties", "$defs"):
        if keyword in result:
            result[keyword] = {name: _strict(child) for name, child in result[keyword].items()}
    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        if keyword in result:
            result[keyword] = [_strict(child) for child in result[keyword]]
    if isinstance(result.get("items"), dict):
        result["items"] = _strict(result["items"])
    if "properties" in result:
        result |= {"required": list(result["properties"]), "additionalProperties": False}
    return result


def mode_for(provider: str, *, supports_json_schema: bool | None) -> OutputMode:
    """How a model is asked: by schema where it is known to hold to one or nothing is known, except on z.ai.

    z.ai documents only `json_object` (https://docs.z.ai/guides/capabilities/struct-output).
    """
    if provider == "zai" or supports_json_schema is False:
        return "json_object"
    return "json_schema"


def with_output(
    messages: tuple[Mapping[str, Any], ...], spec: OutputSpec[Any], mode: OutputMode
) -> tuple[tuple[Mapping[str, Any], ...], dict[str, Any]]:
    """The messages and the `response_format` that ask for the spec."""
    if mode == "json_schema":
        body = {"name": spec.name, "schema": spec.schema, "strict": spec.strict}
        return messages, {"type": "json_schema", "json_schema": body}
    instruction = (
        "Answer with one JSON object that fits this JSON schema, and with nothing else:\n"
        f"{json.dumps(spec.schema, ensure_ascii=False)}"
    )
    return (*messages, {"role": "system", "content": instruction}), {"type": "json_object"}


def parse(spec: OutputSpec[T], text: str) -> T:
    """Validate an answer, with or without a code fence around it. Raises `SchemaMismatchError`."""
    fenced = _FENCE.search(text)
    document = fenced.group(1) if fenced else text.strip()
    try:
        if not spec.wrapped:
            return spec.adapter.validate_json(document)
        return spec.adapter.validate_json(json.dumps(_unwrap(document)))
    except ValidationError as error:
        raise SchemaMismatchError(_sentences(error)) from error


def _unwrap(document: str) -> Any:
    try:
        value = json.loads(document)
    except ValueError as error:
        raise SchemaMismatchError([f"the answer is not JSON: {error}"]) from error
    if not isinstance(value, dict) or "value" not in value:
        raise SchemaMismatchError(['the answer must be a JSON object with the one key "value"'])
    return value["value"]  # pyright: ignore[reportUnknownVariableType] (JSON)


def _sentences(error: ValidationError) -> list[str]:
    # Without the input: it is in the conversation already, and errors end up in logs.
    details = error.errors(include_input=False, include_url=False, include_context=False)
    return [f"{'.'.join(map(str, detail['loc'])) or 'the answer'}: {detail['msg']}" for detail in details[:_MAX_ERRORS]]


def reask(
    messages: tuple[Mapping[str, Any], ...], answer: str, mismatch: SchemaMismatchError
) -> tuple[Mapping[str, Any], ...]:
    """The conversation that asks once more, with what was wrong."""
    problems = "\n".join(f"- {problem}" for problem in mismatch.errors)
    return (
        *messages,
        {"role": "assistant", "content": answer},
        {"role": "user", "content": f"That answer does not fit the schema:\n{problems}\nGive the whole answer again."},
    )
