import enum
import json
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, HttpUrl, RootModel

from llm_common.exceptions import InvalidInputError
from llm_common.llm.structured.schema import SchemaMismatchError, output_spec, parse
from llm_common.testing.schemas import strictness_error


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    kind: Literal["leaf"] = "leaf"
    colour: Colour


class Node(BaseModel):
    kind: Literal["node"] = "node"
    children: list[Annotated["Node | Leaf", Field(discriminator="kind")]] = []
    default: str | None = None
    """A property with the name of a JSON schema keyword."""


class Free(BaseModel):
    scores: dict[str, int]


def objects(schema):
    """Every object schema within a schema, by walking over all of it."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def test_strict_schemas_require_every_property_and_allow_no_other():
    """What OpenAI's strict mode asks of each object, in recursion and unions too."""
    spec = output_spec(Node)
    assert spec.strict
    found = list(objects(spec.schema))
    assert len(found) == 3  # the root, and both definitions
    for schema in found:
        assert schema["required"] == list(schema["properties"])
        assert schema["additionalProperties"] is False
    assert "default" in spec.schema["$defs"]["Node"]["properties"]


class Priced(BaseModel):
    amount: Decimal
    url: HttpUrl
    day: date
    code: Annotated[str, Field(min_length=2, pattern="^[A-Z]+$")] = "XX"
    node: Node


def test_what_strict_mode_refuses_is_left_out_and_still_validated():
    """Unions become `anyOf`; defaults, lookarounds, odd formats and lengths go; the type itself still holds."""
    spec = output_spec(Priced)
    assert spec.strict
    written = json.dumps(spec.schema)
    for refused in ("oneOf", "discriminator", "minLength", '"uri"', "(?!", '"default": "XX"'):
        assert refused not in written
    assert '"date"' in written
    assert "^[A-Z]+$" in written
    assert strictness_error(spec.schema, all_required=True) is None
    given = {"amount": "1.50", "url": "https://x.example", "day": "2026-01-31", "code": "X", "node": {}}
    with pytest.raises(SchemaMismatchError, match="code"):
        parse(spec, json.dumps(given))
    assert parse(spec, json.dumps({**given, "code": "XY"})).amount == Decimal("1.50")


@pytest.mark.parametrize("response_model", [tuple[int, str], list[Any], dict[str, int]])
def test_what_strict_mode_does_not_know_is_not_asked_strictly(response_model):
    """Tuples, free keys and anything at all."""
    assert not output_spec(response_model).strict


def test_a_root_model_is_wrapped_unless_it_is_an_object():
    """Providers only answer with objects."""
    spec = output_spec(RootModel[list[int]])
    assert spec.wrapped
    assert parse(spec, '{"value": [1]}').root == [1]


def test_free_keys_cannot_be_strict():
    """A dict with keys of the model's choice is asked for without strict mode, not bent."""
    spec = output_spec(Free)
    assert not spec.strict
    assert parse(spec, '{"scores": {"a": 1}}') == Free(scores={"a": 1})


@pytest.mark.parametrize(
    ("response_model", "document", "value"),
    [
        (list[Leaf], {"value": [{"colour": "red"}]}, [Leaf(colour=Colour.RED)]),
        (Leaf | Free, {"value": {"scores": {"x": 2}}}, Free(scores={"x": 2})),
        (Colour, {"value": "blue"}, Colour.BLUE),
        (int, {"value": 3}, 3),
    ],
    ids=["list", "union", "enum", "int"],
)
def test_what_is_no_object_is_wrapped_into_one(response_model, document, value):
    """Providers only answer with objects; the wrapper comes off again."""
    spec = output_spec(response_model)
    assert spec.schema["type"] == "object"
    assert parse(spec, json.dumps(document)) == value


def test_a_code_fence_is_no_obstacle():
    """Models like to dress JSON up."""
    assert parse(output_spec(Leaf), 'Sure!\n```json\n{"colour": "red"}\n```\n') == Leaf(colour=Colour.RED)


@pytest.mark.parametrize("text", ["", "no", "{", '{"colour": "green"}', "[]", "null", '```json\n{"colour": 1}\n```'])
def test_a_misfit_is_an_error_and_never_filled_in(text):
    """What does not validate is refused, with sentences a model can act on and without the answer's text."""
    with pytest.raises(SchemaMismatchError) as caught:
        parse(output_spec(Leaf), text)
    assert caught.value.errors
    assert "green" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "no", "[1]", '{"values": 1}', '{"value": "x"}'])
def test_a_misfit_of_a_wrapped_type_is_an_error_too(text):
    """The wrapper is held to as well."""
    with pytest.raises(SchemaMismatchError):
        parse(output_spec(int), text)


def test_a_type_without_a_schema_is_refused():
    """The caller learns what to use instead."""
    with pytest.raises(InvalidInputError, match="Pydantic model"):
        output_spec(type("Plain", (), {}))
