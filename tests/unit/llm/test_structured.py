import enum
import json
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from llm_common.exceptions import InvalidInputError
from llm_common.llm.structured import SchemaMismatchError, mode_for, output_spec, parse, reask, with_output

ASK = ({"role": "user", "content": "go"},)


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


def test_asking_again_shows_the_answer_and_what_was_wrong():
    """The model sees its own answer and the validation errors."""
    with pytest.raises(SchemaMismatchError) as caught:
        parse(output_spec(Leaf), '{"colour": "green"}')
    *_, answer, complaint = reask(ASK, '{"colour": "green"}', caught.value)
    assert answer == {"role": "assistant", "content": '{"colour": "green"}'}
    assert "colour" in complaint["content"]


def test_the_two_ways_to_ask():
    """By schema where a model holds to one; by prompt where the provider only knows JSON."""
    spec = output_spec(Leaf)
    messages, by_schema = with_output(ASK, spec, mode_for("openai", supports_json_schema=True))
    assert messages == ASK
    assert by_schema["json_schema"]["schema"] == spec.schema
    messages, by_prompt = with_output(ASK, spec, mode_for("zai", supports_json_schema=None))
    assert by_prompt == {"type": "json_object"}
    assert json.dumps(spec.schema) in messages[-1]["content"]


def test_a_type_without_a_schema_is_refused():
    """The caller learns what to use instead."""
    with pytest.raises(InvalidInputError, match="Pydantic model"):
        output_spec(type("Plain", (), {}))
