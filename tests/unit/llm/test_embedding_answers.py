"""Vectors as providers send them, and what is wrong with them."""

import base64
import json
import struct
from array import array
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_common.exceptions import InvalidAnswerError, LLMError, ProviderError
from llm_common.llm.embedding_answers import vectors_in
from llm_common.llm.json_text import json_object
from llm_common.llm.wire import EmbeddingRequest, Route
from llm_common.models import Usage

ROUTE = Route(asked="openai/e", provider="openai", name="e", wire="direct", base_url="http://x/v1", api_key="key")
REQUEST = EmbeddingRequest(route=ROUTE, texts=("a", "b"))
USAGE = {"prompt_tokens": 7, "total_tokens": 7}


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def answer(*items, **changes):
    return {"data": list(items), "model": "e-1", "usage": USAGE, **changes}


def item(index, embedding):
    return {"object": "embedding", "index": index, "embedding": embedding}


def test_packed_vectors_and_lists_are_the_same():
    """A server that ignores the request to pack is understood all the same."""
    lists = vectors_in(REQUEST, answer(item(0, [0.5, -1]), item(1, [0.25, 2])), {"x-request-id": "r"})
    assert lists.vectors == (array("f", [0.5, -1]), array("f", [0.25, 2]))
    assert (lists.usage, lists.answered_by, lists.request_id) == (Usage(input_tokens=7), "e-1", "r")
    both = answer(item(0, packed(0.5, -1)), item(1, packed(0.25, 2)))
    assert vectors_in(REQUEST, both, {}).vectors == lists.vectors


def test_a_vector_belongs_to_the_text_that_its_index_says():
    """Whatever the order in which they come; without an index their place counts."""
    turned = vectors_in(REQUEST, answer(item(1, [1.0]), item(0, [0.0])), {})
    assert turned.vectors == (array("f", [0.0]), array("f", [1.0]))
    bare = vectors_in(REQUEST, answer({"embedding": [3.0]}, {"embedding": [4.0]}), {})
    assert bare.vectors == (array("f", [3.0]), array("f", [4.0]))


@pytest.mark.parametrize(
    ("items", "problem"),
    [
        ([item(0, [1.0])], "1 vectors for 2 texts"),
        ([item(0, [1.0]), item(1, [1.0]), item(2, [1.0])], "3 vectors for 2 texts"),
        ([item(0, [1.0]), item(0, [1.0])], "two vectors for text 0"),
        ([item(0, [1.0]), item(2, [1.0])], "vector for text 2"),
        ([item(0, [1.0]), item("1", [1.0])], "vector for text '1'"),
        ([item(0, [1.0]), item(True, [1.0])], "vector for text True"),
        ([item(0, [1.0]), item(1, [1.0, 2.0])], "2 dimensions for text 1 instead of 1"),
        ([item(0, [1.0]), item(1, [float("nan")])], "a NaN or an infinity for text 1"),
        ([item(0, [1.0]), item(1, packed(float("inf")))], "a NaN or an infinity for text 1"),
        ([item(0, [1e300]), item(1, [1.0])], "a NaN or an infinity for text 0"),
        ([item(0, []), item(1, [])], "an empty vector"),
        ([item(0, ""), item(1, "")], "an empty vector"),
        ([item(0, "!!!!"), item(1, packed(1.0))], "no readable vector for text 0"),
        ([item(0, packed(1.0)[:-4]), item(1, packed(1.0))], "no readable vector for text 0"),
        ([item(0, ["1"]), item(1, [1.0])], "no readable vector for text 0"),
        ([item(0, None), item(1, [1.0])], "no readable vector for text 0"),
        ([[0, 1.0], item(1, [1.0])], "no object at place 0"),
    ],
)
def test_half_an_answer_is_none(items, problem):
    """A typed error says what is wrong, and what was used is charged by the provider's own count."""
    with pytest.raises(InvalidAnswerError, match=problem) as told:
        vectors_in(REQUEST, answer(*items), {})
    assert told.value.maybe_billed
    assert told.value.usage == Usage(input_tokens=7)


def test_other_dimensions_than_asked_for_are_refused():
    """A server that ignores `dimensions` would spoil an index of vectors."""
    request = EmbeddingRequest(route=ROUTE, texts=("a",), dimensions=3)
    with pytest.raises(InvalidAnswerError, match="2 dimensions for text 0 instead of 3"):
        vectors_in(request, answer(item(0, [1.0, 2.0])), {})


def test_an_error_in_a_200_keeps_its_kind():
    """And the prompt's echo stays out of it."""
    request = EmbeddingRequest(route=ROUTE, texts=("a very secret text of the caller's own",))
    failed = {"error": {"code": 502, "message": f"upstream died on {request.texts[0]}"}}
    with pytest.raises(ProviderError) as told:
        vectors_in(request, failed, {})
    assert request.texts[0] not in str(told.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["index", "embedding", "x"]), inner),
    max_leaves=12,
)
payloads = st.fixed_dictionaries(
    {"data": st.lists(json_values, min_size=1, max_size=3) | json_values}
) | st.dictionaries(st.sampled_from(["data", "error", "usage", "model"]), json_values)


@settings(deadline=None, max_examples=300)
@given(payloads.map(json.dumps).map(str.encode) | st.binary(max_size=64))
def test_whatever_arrives_only_typed_errors_come_out(body):
    """Arbitrary bytes and arbitrary JSON: vectors or an `LLMError`."""
    with suppress(LLMError):
        vectors_in(REQUEST, json_object(ROUTE, body), {})
