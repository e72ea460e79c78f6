"""Structured output: a Python type → the schema that a provider is asked for, and its answer → an instance. Pure.

Nothing is filled in or repaired: what does not validate is a `SchemaMismatchError`. `output_modes` says how a provider
is asked.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeAlias, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from llm_common.exceptions import InvalidInputError

__all__ = ["OutputSpec", "SchemaMismatchError", "output_spec", "parse"]

T = TypeVar("T")
Schema: TypeAlias = dict[str, Any]

_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL)
_MAX_ERRORS = 12
# What strict mode refuses ("'oneOf' is not permitted", "'default' is not permitted"), or does not list as supported
# (https://platform.openai.com/docs/guides/structured-outputs#supported-schemas). Leaving a keyword out asks for less;
# the answer is validated by the type all the same.
_NOT_STRICT = frozenset({"default", "discriminator", "minLength", "maxLength", "uniqueItems", "contentMediaType"})
_STRICT_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_LOOKAROUND = re.compile(r"\(\?<?[=!]")


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
    # A root model is a model too, but its schema need not be an object's.
    is_object = (
        isinstance(response_model, type) and issubclass(response_model, BaseModel) and schema.get("type") == "object"
    )
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
    """Strict mode has no objects with free keys, no tuples, and nothing that may be anything."""
    is_free = schema.get("type") == "object" and (schema.get("additionalProperties") or "properties" not in schema)
    is_anything = schema.keys().isdisjoint({"type", "$ref", "anyOf", "oneOf", "enum", "const"})
    return not (is_free or is_anything or "prefixItems" in schema) and all(map(_can_be_strict, _children(schema)))


def _children(schema: Schema) -> Iterator[Schema]:
    for keyword in ("properties", "$defs"):
        yield from schema.get(keyword, {}).values()
    for keyword in ("anyOf", "oneOf", "allOf"):
        yield from schema.get(keyword, [])
    if isinstance(schema.get("items"), dict):
        yield schema["items"]


def _strict(schema: Schema) -> Schema:
    """Every property required, none beside them, and no keyword that strict mode refuses."""
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}  # strict mode lets nothing stand beside a reference
    result = {keyword: value for keyword, value in schema.items() if _may_be_strict(keyword, value)}
    for keyword in ("properties", "$defs"):
        if keyword in result:
            result[keyword] = {name: _strict(child) for name, child in result[keyword].items()}
    if "oneOf" in result:
        result["anyOf"] = result.pop("oneOf")
    for keyword in ("anyOf", "allOf"):
        if keyword in result:
            result[keyword] = [_strict(child) for child in result[keyword]]
    if isinstance(result.get("items"), dict):
        result["items"] = _strict(result["items"])
    if "properties" in result:
        result |= {"required": list(result["properties"]), "additionalProperties": False}
    return result


def _may_be_strict(keyword: str, value: Any) -> bool:
    if keyword == "format":
        return value in _STRICT_FORMATS
    if keyword == "pattern":
        return not _LOOKAROUND.search(value)
    return keyword not in _NOT_STRICT


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
