"""JSON schemas as a provider sees them: answered with the least that fits, or refused where they are not strict."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from llm_common.testing.wire import Json

__all__ = ["least_instance", "schema_in_text", "strictness_error"]

_FORMATS: Final[Mapping[str, str]] = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}

_REFUSED: Final = frozenset({"oneOf", "default", "prefixItems"})


def least_instance(schema: Mapping[str, Any]) -> Any:
    """The smallest value that `schema` accepts: required properties only, shortest lists, first choices.

    A `pattern` is not honoured; give the answer yourself where a schema has one.
    """
    return _instance(schema, schema, frozenset())


def _instance(schema: Mapping[str, Any], root: Mapping[str, Any], open_refs: frozenset[str]) -> Any:
    if "$ref" in schema:
        ref = str(schema["$ref"])
        return _instance(_resolve(ref, root), root, open_refs | {ref})
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return _instance(_first_finite(schema[key], open_refs), root, open_refs)
    if "allOf" in schema:
        return _instance(_merged(schema["allOf"], root), root, open_refs)
    return _of_type(schema, root, open_refs)


def _of_type(schema: Mapping[str, Any], root: Mapping[str, Any], open_refs: frozenset[str]) -> Any:
    named: Any = schema.get("type", "object" if "properties" in schema else "string")
    kind = str(cast("list[str]", named)[0] if isinstance(named, list) else named)
    if kind == "object":
        properties: Mapping[str, Any] = schema.get("properties", {})
        required: Sequence[str] = schema.get("required", ())
        return {name: _instance(properties.get(name, {}), root, open_refs) for name in required}
    if kind == "array":
        count = int(schema.get("minItems", 0))
        return [_instance(schema.get("items", {}), root, open_refs) for _ in range(count)]
    if kind in {"integer", "number"}:
        return _number(schema, whole=kind == "integer")
    return {"boolean": False, "null": None}[kind] if kind in {"boolean", "null"} else _string(schema)


def _string(schema: Mapping[str, Any]) -> str:
    text = _FORMATS.get(str(schema.get("format")), "example")
    text = text.ljust(int(schema.get("minLength", 0)), ".")
    return text[: int(schema.get("maxLength", len(text)))]


def _number(schema: Mapping[str, Any], *, whole: bool) -> float | int:
    """The allowed number that is nearest to zero."""
    step = schema.get("multipleOf", 1 if whole else 0)
    gap = step or 0.5 * (_span(schema) or 1)
    low, high = schema.get("minimum"), schema.get("maximum")
    if "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + gap
    if "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - gap
    value = 0 if low is None or low <= 0 else low
    if high is not None and value > high:
        value = high
    if step:
        value = -(-value // step) * step if high is None or value < high else value // step * step
    return int(value) if whole else value


def _span(schema: Mapping[str, Any]) -> float | None:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    return None if low is None or high is None else min(1, high - low)


def _resolve(ref: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    node: Any = root
    for step in ref.removeprefix("#").strip("/").split("/"):
        if step:
            node = node[step.replace("~1", "/").replace("~0", "~")]
    return node


def _first_finite(options: Sequence[Mapping[str, Any]], open_refs: frozenset[str]) -> Mapping[str, Any]:
    """The first alternative that does not lead back to where we are: a tree has to end somewhere."""
    return next((option for option in options if option.get("$ref") not in open_refs), options[0])


def _merged(parts: Sequence[Mapping[str, Any]], root: Mapping[str, Any]) -> Json:
    merged: Json = {}
    for part in parts:
        whole = _resolve(str(part["$ref"]), root) if "$ref" in part else part
        properties = {**merged.get("properties", {}), **whole.get("properties", {})}
        required = [*merged.get("required", ()), *whole.get("required", ())]
        merged = {**merged, **whole}
        if properties:
            merged |= {"properties": properties, "required": required}
    return merged


def schema_in_text(text: str) -> Json | None:
    """The last JSON schema of an object that a prompt quotes, as a model would read it; None without one."""
    found: Json | None = None
    decoder = json.JSONDecoder()
    position = text.find("{")
    while position >= 0:
        try:
            value: Any
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError:
            end = position + 1
        else:
            if _is_object_schema(value):
                found = value
        position = text.find("{", end)
    return found


def _is_object_schema(value: Json) -> bool:
    return isinstance(value.get("properties"), dict) or {"$defs", "$ref"} <= value.keys()


def strictness_error(schema: Mapping[str, Any], *, all_required: bool) -> str | None:
    """Why a provider's strict mode refuses `schema`; None where it accepts it.

    Every object must forbid additional properties; OpenAI also wants each property to be required (`all_required`),
    and takes no `oneOf` and no `default`.
    Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    """
    refused = _refused_keyword(schema) if all_required else None
    if refused is not None:
        return f"In context=(), '{refused}' is not permitted."
    for path, node in _objects(schema, ()):
        where = f"In context=({', '.join(repr(step) for step in path)})"
        if node.get("additionalProperties") is not False:
            return f"{where}, 'additionalProperties' is required to be supplied and to be false."
        missing = sorted(set(node.get("properties", {})) - set(node.get("required", ())))
        if all_required and missing:
            return (
                f"{where}, 'required' is required to be supplied and to be an array including every key in "
                f"properties. Missing {missing[0]!r}."
            )
    return None


def _refused_keyword(node: Mapping[str, Any]) -> str | None:
    """A keyword that OpenAI refuses, somewhere in a schema; names of properties are no keywords."""
    if found := _REFUSED & node.keys():
        return min(found)
    children = [child for key in ("properties", "$defs") for child in node.get(key, {}).values()]
    children += [child for key in ("anyOf", "allOf") for child in node.get(key, ())]
    children += [node["items"]] if isinstance(node.get("items"), Mapping) else []
    return next(filter(None, map(_refused_keyword, children)), None)


def _objects(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    if node.get("type") == "object" or "properties" in node:
        yield path, node
    for key in ("properties", "$defs", "definitions"):
        for name, child in node.get(key, {}).items():
            yield from _objects(child, (*path, key, name))
    for key in ("anyOf", "allOf", "oneOf"):
        for index, child in enumerate(node.get(key, ())):
            yield from _objects(child, (*path, key, str(index)))
    if isinstance(node.get("items"), Mapping):
        yield from _objects(node["items"], (*path, "items"))
