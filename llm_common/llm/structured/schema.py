"""Structured output: a Python type → the schema that a provider is asked for, and its answer → an instance. Pure.

Nothing is filled in or repaired: what does not validate is a `SchemaMismatchError`. `output_modes` says how a provider
is asked, `documents` where in its answer the document is.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeAlias, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from llm_common.exceptions import InvalidInputError
from llm_common.llm.json_text import whole_characters
from llm_common.llm.structured.documents import documents

__all__ = ["OutputSpec", "SchemaMismatchError", "output_spec", "parse"]

T = TypeVar("T")
Schema: TypeAlias = dict[str, Any]

#: An escape of half a character in UTF-16: two make a whole one, one alone is nothing that can be stored.
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
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
    """One answer did not fit. `errors` are sentences that a model can act on; `is_json`: it was JSON at least."""

    def __init__(self, errors: Sequence[str], *, is_json: bool = True) -> None:
        super().__init__("; ".join(errors))
        self.errors = tuple(errors)
        self.is_json = is_json


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
    if strict:
        schema = _strict(schema, cast("dict[str, Schema]", schema.get("$defs", {})), ())
    return OutputSpec(name, schema, strict, not is_object, adapter)


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


def _strict(schema: Schema, definitions: Mapping[str, Schema], within: tuple[str, ...]) -> Schema:
    """Every property required, none beside them, and no keyword that strict mode refuses."""
    if "$ref" in schema:
        return _referred(schema, definitions, within)

    def strict(child: Schema) -> Schema:
        return _strict(child, definitions, within)

    result = {keyword: value for keyword, value in schema.items() if _may_be_strict(keyword, value)}
    for keyword in ("properties", "$defs"):
        if keyword in result:
            result[keyword] = {name: strict(child) for name, child in result[keyword].items()}
    if "oneOf" in result:
        result["anyOf"] = result.pop("oneOf")
    for keyword in ("anyOf", "allOf"):
        if keyword in result:
            result[keyword] = [strict(child) for child in result[keyword]]
    if isinstance(result.get("items"), dict):
        result["items"] = strict(result["items"])
    if "properties" in result:
        result |= {"required": list(result["properties"]), "additionalProperties": False}
    return result


def _referred(schema: Schema, definitions: Mapping[str, Schema], within: tuple[str, ...]) -> Schema:
    """Strict mode lets nothing stand beside a reference: what a description is about is written out instead.

    `within` are the definitions that are being written out: one that is in itself stays a reference.
    """
    name = schema["$ref"].removeprefix("#/$defs/")
    if "description" not in schema or name not in definitions or name in within:
        return {"$ref": schema["$ref"]}
    written = _strict(definitions[name], definitions, (*within, name))
    return {**written, "description": schema["description"]}


def _may_be_strict(keyword: str, value: Any) -> bool:
    if keyword == "format":
        return value in _STRICT_FORMATS
    if keyword == "pattern":
        return not _LOOKAROUND.search(value)
    return keyword not in _NOT_STRICT


def parse(spec: OutputSpec[T], text: str) -> T:
    """Validate the document in an answer's text. Raises `SchemaMismatchError`, about the likeliest document."""
    first: SchemaMismatchError | None = None
    for document in dict.fromkeys(documents(text)):
        try:
            return _validated(spec, document)
        except ValidationError as error:
            is_json = all(detail["type"] != "json_invalid" for detail in error.errors(include_context=False))
            if first is None or (is_json and not first.is_json):
                first = SchemaMismatchError(_sentences(error), is_json=is_json)
    assert first is not None
    raise first


def _validated(spec: OutputSpec[T], document: str) -> T:
    if _HALF_CHARACTER.search(document):
        document = whole_characters(document)
    if spec.wrapped:
        wrapper: Any = _wrapper.validate_json(document)
        if isinstance(wrapper, dict) and "value" in wrapper:
            document = json.dumps(wrapper["value"])
        # Without its wrapper it is taken as well, if it fits.
    return spec.adapter.validate_json(document)


_wrapper = TypeAdapter(Any)


def _sentences(error: ValidationError) -> list[str]:
    # Without the input: it is in the conversation already, and errors end up in logs.
    details = error.errors(include_input=False, include_url=False, include_context=False)
    return [f"{'.'.join(map(str, detail['loc'])) or 'the answer'}: {detail['msg']}" for detail in details[:_MAX_ERRORS]]
