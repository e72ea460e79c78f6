import enum
import json
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, create_model

from llm_common.exceptions import ContentPolicyError, StructuredOutputError
from llm_common.llm.catalogue.model_info import ModelInfo
from llm_common.llm.request_encoding import encoded
from llm_common.llm.structured.output_modes import (
    OutputMode,
    instance_in,
    misfit,
    mode_for,
    reask,
    unwrapped,
    with_output,
)
from llm_common.llm.structured.partial_output import PartialOutput
from llm_common.llm.structured.schema import SchemaMismatchError, output_spec
from llm_common.llm.wire import Route, ToolCallDelta, WireAnswer, WireChunk, WireRequest
from llm_common.models import ToolCall
from llm_common.testing.default_answers import default_answer
from llm_common.testing.openai_request import parse_chat
from llm_common.testing.schemas import strictness_error

MODES: tuple[OutputMode, ...] = ("json_schema", "tools", "json_object", "prompt")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Tree(BaseModel):
    kind: Literal["tree"] = "tree"
    colour: Colour
    children: list["Tree"] = []


def route(provider: str = "openai", name: str = "m", wire: Any = "direct") -> Route:
    return Route(asked=f"{provider}/{name}", provider=provider, name=name, wire=wire, base_url="http://x", api_key="k")


def request(**more: Any) -> WireRequest:
    return WireRequest(route=route(), messages=({"role": "user", "content": "go"},), **more)


def answered(text: str = "", *calls: ToolCall, reason: str | None = "stop") -> WireAnswer:
    return WireAnswer(
        text=text,
        tool_calls=calls,
        finish_reason=reason,
        usage=None,
        cost_usd=None,
        answered_by="m",
        request_id=None,
        raw={},
    )


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}


# ── which mode ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("place", "schema", "tools", "mode"),
    [
        (route(), True, True, "json_schema"),
        (route(), None, None, "json_schema"),
        (route(), False, True, "tools"),
        (route(), False, False, "json_object"),
        (route("zai", "glm-5.3"), True, True, "json_object"),
        (route("openrouter", "z-ai/glm-5.3"), False, True, "json_object"),
        (route("openrouter", "meta/llama"), False, True, "tools"),
        (route("anthropic", "claude", "litellm"), False, True, "tools"),
        (route("replicate", "old", "litellm"), False, False, "prompt"),
    ],
)
def test_the_mode_is_what_the_model_can_do_best(place, schema, tools, mode):
    """Native schema before tools before JSON mode before words; z.ai's models are never forced to call."""
    info = ModelInfo(provider=place.provider, name=place.name, supports_json_schema=schema, supports_tools=tools)
    assert mode_for(place, info) == mode


def test_a_model_that_nobody_knows_is_asked_by_schema():
    """Servers of one's own (vLLM, Ollama, LM Studio) hold to schemas."""
    assert mode_for(route(), None) == "json_schema"


# ── what is asked ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_each_mode_asks_in_its_own_way():
    """By response format, by a forced tool, by JSON mode with the schema in the prompt, by the prompt alone."""
    spec = output_spec(Tree)
    asked = {mode: with_output(request(), spec, mode) for mode in MODES}
    assert asked["json_schema"].response_format["json_schema"]["schema"] == spec.schema
    assert asked["json_schema"].messages == asked["tools"].messages == request().messages
    assert asked["tools"].tools[0]["function"]["parameters"] == spec.schema
    assert asked["tools"].tool_choice == {"type": "function", "function": {"name": "answer_Tree"}}
    assert asked["json_object"].response_format == {"type": "json_object"}
    assert asked["prompt"].response_format is None
    for mode in ("json_object", "prompt"):
        assert json.dumps(spec.schema) in asked[mode].messages[-1]["content"]


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        ({"tools": (tool("f"),)}, "required"),
        ({"tools": (tool("f"),), "tool_choice": "auto"}, "auto"),
        ({"tools": (tool("f"),), "tool_choice": "none"}, {"type": "function", "function": {"name": "answer_Tree"}}),
        ({"extra": {"reasoning_effort": "high"}}, "auto"),
    ],
    ids=["tools", "own choice", "no tools", "thinking"],
)
def test_tools_mode_leaves_the_caller_its_say(given, choice):
    """Own tools and an own choice stay; a model that is told to think is not forced."""
    asked = with_output(request(**given), output_spec(Tree), "tools")
    assert asked.tool_choice == choice
    assert [t["function"]["name"] for t in asked.tools][-1] == "answer_Tree"
    assert asked.tools[:-1] == given.get("tools", ())


def test_the_answers_tool_never_hides_one_of_the_callers():
    """A name that is taken is not taken twice, and the caller's call of it is still the caller's."""
    tools = (tool("answer_Tree"),)
    asked = with_output(request(tools=tools), output_spec(Tree), "tools")
    assert [t["function"]["name"] for t in asked.tools] == ["answer_Tree", "answer_Tree_"]
    call = ToolCall("1", "answer_Tree", "{}")
    assert unwrapped(output_spec(Tree), tools, answered("", call)).tool_calls == (call,)


# ── asking again ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_asking_again_shows_the_text_and_what_was_wrong():
    """The model sees its own answer and the validation errors."""
    *_, said, complaint = reask(
        (), output_spec(Tree), (), answered('{"colour": 1}'), SchemaMismatchError(["colour: no"])
    )
    assert said == {"role": "assistant", "content": '{"colour": 1}'}
    assert "colour: no" in complaint["content"]


def test_asking_again_by_tool_is_a_result_for_every_call():
    """A call without a result is refused by providers, also where a model called twice, or a server gave no id."""
    calls = (ToolCall("", "answer_Tree", "{}"), ToolCall("b", "answer_Tree", "{"))
    said, *results = reask((), output_spec(Tree), (), answered("", *calls), SchemaMismatchError(["colour: missing"]))
    assert [call["id"] for call in said["tool_calls"]] == [result["tool_call_id"] for result in results]
    assert [call["function"]["arguments"] for call in said["tool_calls"]] == ["{}", "{"]
    assert all(result["role"] == "tool" and "colour: missing" in result["content"] for result in results)
    assert len({result["tool_call_id"] for result in results} - {""}) == 2


def test_nothing_said_is_not_shown():
    """A message without content would be refused."""
    (only,) = reask((), output_spec(Tree), (), answered("", ToolCall("1", "made_up", "{}")), SchemaMismatchError(["x"]))
    assert only["role"] == "user"


@pytest.mark.parametrize(
    ("reason", "kind", "told"),
    [
        ("stop", StructuredOutputError, "in 3 tries"),
        ("length", StructuredOutputError, "Raise max_tokens"),
        ("content_filter", ContentPolicyError, "safety rules"),
    ],
)
def test_a_misfit_says_why(reason, kind, told):
    """Cut, refused, or just wrong: each needs something else of the host. The answer's text is in no message."""
    answer = answered("secret words", reason=reason)
    error = misfit(route(), output_spec(Tree), answer, SchemaMismatchError(["no"]), tries=3)
    assert isinstance(error, kind)
    assert told in str(error)
    assert "secret" not in str(error)


# ── any type, in every mode ──────────────────────────────────────────────────────────────────────────────────────────

_TEXT = st.text(max_size=12)
_Drawn = tuple[Any, st.SearchStrategy[Any]]


def _leaves() -> st.SearchStrategy[_Drawn]:
    return st.sampled_from(
        [
            (int, st.integers(-(10**9), 10**9)),
            (float, st.floats(allow_nan=False, allow_infinity=False, width=32)),
            (bool, st.booleans()),
            (str, _TEXT),
            (Colour, st.sampled_from(Colour)),
            (Literal["a", "b"], st.sampled_from(["a", "b"])),
            (Tree, st.recursive(
                st.builds(Tree, colour=st.sampled_from(Colour)),
                lambda trees: st.builds(Tree, colour=st.sampled_from(Colour), children=st.lists(trees, max_size=2)),
                max_leaves=4,
            )),
        ]
    )  # fmt: skip


def _of(inner: _Drawn, kind: str) -> _Drawn:
    annotation, values = inner
    if kind == "list":
        return list[annotation], st.lists(values, max_size=3)
    if kind == "optional":
        return annotation | None, st.none() | values
    if kind == "keys":
        return dict[str, annotation], st.dictionaries(_TEXT, values, max_size=2)
    return annotation | Tree, values | st.builds(Tree, colour=st.sampled_from(Colour))


def _model(fields: list[_Drawn], defaults: list[bool]) -> _Drawn:
    made = {f"f{n}": (annotation, ... if required else None) for n, ((annotation, _), required) in
            enumerate(zip(fields, defaults, strict=False))}  # fmt: skip
    made = {name: (a if default is ... else a | None, default) for name, (a, default) in made.items()}
    model = create_model("Made", **made)
    return model, st.builds(model, **{f"f{n}": values for n, (_, values) in enumerate(fields[: len(made)])})


def _types() -> st.SearchStrategy[_Drawn]:
    return st.recursive(
        _leaves(),
        lambda inner: (
            st.builds(_of, inner, st.sampled_from(["list", "optional", "keys", "union"]))
            | st.builds(
                _model, st.lists(inner, min_size=1, max_size=3), st.lists(st.booleans(), min_size=1, max_size=3)
            )
        ),
        max_leaves=5,
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_type_survives_every_mode(data):
    """The provider takes its schema and fills it, and an instance comes back as what it was, also out of a stream."""
    annotation, values = data.draw(_types())
    spec = output_spec(annotation)
    if spec.strict:
        assert strictness_error(spec.schema, all_required=True) is None
    instance = data.draw(values)
    plain = TypeAdapter(annotation).dump_python(instance, mode="json")
    document = json.dumps({"value": plain} if spec.wrapped else plain)
    for mode in MODES:
        asked = with_output(request(), spec, mode)
        taken = parse_chat("openai", json.loads(encoded(asked, stream=False)))
        if mode != "prompt":
            least = default_answer(taken).text
            assert least is not None
            instance_in(spec, (), answered(least))  # raises where it does not fit
        call = ToolCall("1", asked.tools[0]["function"]["name"], document) if mode == "tools" else None
        answer = unwrapped(spec, (), answered("", call) if call else answered(document))
        assert TypeAdapter(annotation).dump_python(instance_in(spec, (), answer), mode="json") == plain
        assert _streamed(spec, document, mode, data.draw(st.integers(1, 9))) == json.loads(json.dumps(plain))


def _streamed(spec: Any, document: str, mode: str, size: int) -> Any:
    """The last partial of an answer that comes in pieces of `size` characters."""
    output, partial = PartialOutput(spec, ()), None
    name: str | None = f"answer_{spec.name}"
    for start in range(0, len(document), size):
        piece = document[start : start + size]
        chunk = WireChunk(text=piece)
        if mode == "tools":
            chunk = WireChunk(tool_calls=(ToolCallDelta(index=0, name=name, arguments=piece),))
        delta = output.delta(chunk)
        assert (delta.text, delta.tool_calls) == (piece, ())
        partial, name = delta.partial, None
    return partial
