"""Schemas: the least instance fits, strictness is judged as the services judge it, prompts are read."""

import json
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from llm_common.testing.schemas import least_instance, schema_in_text, strictness_error


class Level(Enum):
    HIGH = "high"


class Leaf(BaseModel):
    id: UUID
    day: date
    level: Level
    score: Annotated[float, Field(gt=0, lt=1)]
    amount: Decimal


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=12, max_length=14)]
    children: list["Tree"]
    parent: "Tree | None"
    leaves: Annotated[list[Leaf], Field(min_length=2)]
    kind: Literal["a", "b"]
    even: Annotated[int, Field(multiple_of=2, gt=2)]
    optional: str = "x"


@pytest.mark.parametrize("model", [Leaf, Tree])
def test_least_instance_of_models(model: type[BaseModel]) -> None:
    """The least instance of a model's schema is accepted by the model and by the schema."""
    instance = least_instance(model.model_json_schema())
    jsonschema.validate(instance, model.model_json_schema())
    model.model_validate(instance)


bounds = st.integers(-50, 50)


@given(low=st.none() | bounds, width=st.integers(2, 30), step=st.none() | st.integers(1, 2), exclusive=st.booleans())
def test_least_instance_of_whole_numbers(low: int | None, width: int, step: int | None, exclusive: bool) -> None:
    """A whole number stays within its bounds and on its step."""
    schema: dict[str, Any] = {"type": "integer"}
    if step is not None:
        schema["multipleOf"] = step
    if low is not None:
        names = ("exclusiveMinimum", "exclusiveMaximum") if exclusive else ("minimum", "maximum")
        schema |= {names[0]: low, names[1]: low + 2 * width}
    jsonschema.validate(least_instance(schema), schema)


@given(low=st.floats(-100, 100), width=st.floats(0.01, 50), exclusive=st.booleans())
def test_least_instance_of_numbers(low: float, width: float, exclusive: bool) -> None:
    """A number stays within its bounds, also where these are not part of it."""
    names = ("exclusiveMinimum", "exclusiveMaximum") if exclusive else ("minimum", "maximum")
    schema = {"type": "number", names[0]: low, names[1]: low + width}
    jsonschema.validate(least_instance(schema), schema)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": ["string", "null"]}, "example"),
        ({"const": 3}, 3),
        ({"type": "null"}, None),
        ({}, "example"),
        ({"allOf": [{"properties": {"a": {"type": "boolean"}}, "required": ["a"]}, {"type": "object"}]}, {"a": False}),
        ({"$ref": "#/$defs/A~1B", "$defs": {"A/B": {"type": "integer", "minimum": 7}}}, 7),
        ({"type": "string", "maxLength": 2}, "ex"),
    ],
)
def test_least_instance_of_odd_schemas(schema: dict[str, Any], expected: object) -> None:
    """Type lists, constants, nothing at all, merged parts and escaped references have an instance too."""
    assert least_instance(schema) == expected


def test_strictness() -> None:
    """Strict mode wants closed objects at every depth, and OpenAI all properties required."""
    closed = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    assert "Missing 'a'" in str(strictness_error(closed, all_required=True))
    assert strictness_error(closed, all_required=False) is None
    nested = {**closed, "properties": {"a": {"type": "array", "items": {"type": "object"}}}, "required": ["a"]}
    assert "('properties', 'a', 'items')" in str(strictness_error(nested, all_required=True))
    assert strictness_error({**closed, "required": ["a"]}, all_required=True) is None


def test_a_schema_is_found_in_a_prompt() -> None:
    """The last schema that a prompt quotes is found, and other braces are not taken for one."""
    schema = Leaf.model_json_schema()
    prompt = f'Use {{braces}}. Example: {{"a": 1}}. Schema:\n{json.dumps(schema, indent=2)}\nNow {{go}}.'
    assert schema_in_text(prompt) == schema
    assert schema_in_text('No schema here: {"a": {"b": 1}} {') is None
