import json
from typing import Any

import pytest
from pydantic import BaseModel

from llm_common.llm.structured.partial_output import PartialOutput
from llm_common.llm.structured.schema import output_spec
from llm_common.llm.wire import ToolCallDelta, WireChunk


class Bill(BaseModel):
    title: str
    fees: list[int] = []


def partials(response_model: Any, *pieces: str) -> list[Any]:
    output = PartialOutput(output_spec(response_model), ())
    return [output.delta(WireChunk(text=piece)).partial for piece in pieces]


def call(index: int, arguments: str, name: str | None = None) -> WireChunk:
    return WireChunk(tool_calls=(ToolCallDelta(index=index, name=name, arguments=arguments),))


def test_a_partial_is_what_has_arrived():
    """Half a string is half a string; a key without a value is not there yet; before the first brace is nothing."""
    pieces = ("\n", '{"ti', 'tle": "An A', 'ct", "fees": [1, 2', "3], ", '"x": tr', "ue}")
    assert partials(Bill, *pieces) == [
        None,
        {},
        {"title": "An A"},
        {"title": "An Act", "fees": [1, 2]},
        {"title": "An Act", "fees": [1, 23]},
        {"title": "An Act", "fees": [1, 23]},
        {"title": "An Act", "fees": [1, 23], "x": True},
    ]


def test_a_code_fence_and_words_before_it_are_passed_over():
    """Models like to dress JSON up."""
    seen = partials(Bill, "Sure! ```", "json\n{", '"title": "A"', "}\n```", " Done.")
    assert seen == [None, {}, {"title": "A"}, {"title": "A"}, {"title": "A"}]


def test_the_wrapper_of_what_is_no_object_is_taken_off():
    """A list is a list from its first bracket on."""
    assert partials(list[int], '{"va', 'lue": [', "1", ", 2]}") == [None, [], [1], [1, 2]]


@pytest.mark.parametrize("text", ["I will not.", "[1, 2]", "{nonsense}", '{"a" "b"'])
def test_what_is_no_object_has_no_partial_and_raises_nothing(text):
    """The end of the stream says what is wrong."""
    assert partials(Bill, text)[0] in (None, {})


def test_each_delta_keeps_its_own_moment():
    """Deltas that are looked at later show what had arrived with them, not what came since."""
    output = PartialOutput(output_spec(Bill), ())
    deltas = [output.delta(WireChunk(text=piece)) for piece in ('{"title": ', '"A"', ', "fees": [1]}')]
    assert deltas[2].partial == {"title": "A", "fees": [1]}
    assert deltas[0].partial == {}
    assert deltas[1].partial == {"title": "A"}


def test_a_long_answer_is_not_read_anew_for_each_of_its_pieces():
    """The characters that are read grow with the answer's length, not with its square."""
    document = json.dumps({"title": "x" * 100_000})
    output = PartialOutput(output_spec(Bill), ())
    read, seen, length = 0, [], 0
    for start in range(0, len(document), 4):
        piece = document[start : start + 4]
        length += len(piece)
        partial = output.delta(WireChunk(text=piece)).partial
        if not seen or partial is not seen[-1]:
            seen.append(partial)
            read += length
    assert read < 100 * len(document)  # 12,500 times without thought
    assert len(seen[-1]["title"]) > len(document) * 63 / 64 - 50


def test_pieces_of_the_answers_tool_are_text_and_the_callers_calls_stay():
    """Only the first call of the answer's tool is the answer; what was said before it is no part of the object."""
    output = PartialOutput(output_spec(Bill), ())
    chunks = [
        WireChunk(text="I look. "),
        call(0, "", "search"),
        call(0, '{"q": 1}'),
        call(1, '{"title"', "answer_Bill"),
        call(1, ': "A"}'),
        call(2, '{"title": "B"}', "answer_Bill"),
    ]
    deltas = [output.delta(chunk) for chunk in chunks]
    assert "".join(delta.text for delta in deltas) == 'I look. {"title": "A"}'
    assert [piece.index for delta in deltas for piece in delta.tool_calls] == [0, 0]
    assert deltas[-1].partial == {"title": "A"}


def test_without_a_response_model_there_is_no_partial():
    """Plain streams are handed through."""
    delta = PartialOutput(None, ()).delta(call(0, "{}", "f"))
    assert (delta.partial, delta.text, len(delta.tool_calls)) == (None, "", 1)
