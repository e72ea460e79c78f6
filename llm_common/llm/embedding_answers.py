"""Reading vectors in OpenAI's shape: packed (base64) or as lists of numbers, or a typed error. Pure.

An answer is taken as a whole or not at all: a vector too few, of another length, or with a NaN in it would be found by
nobody until searches go wrong.
"""

import sys
from array import array
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any, cast

from pydantic_core import to_json

from llm_common.exceptions import InvalidAnswerError
from llm_common.llm.error_parsing import error_in
from llm_common.llm.json_text import unreadable
from llm_common.llm.response_parsing import reported
from llm_common.llm.token_usage import cost_in, usage_in
from llm_common.llm.wire import EmbeddingRequest, WireVectors

__all__ = ["vectors_in"]

Json = Mapping[str, Any]

_FLOAT32 = "f"


def vectors_in(request: EmbeddingRequest, payload: Json, headers: Mapping[str, str]) -> WireVectors:
    """One vector for each text of the request, in the order of the texts.

    Raises the typed error that a 200 may carry, and `InvalidAnswerError` (with the usage that was reported) for a wrong
    number of vectors, positions that are not each text's once, numbers that are none, and lengths that differ from
    each other or from the dimensions that were asked for.
    """
    if failure := error_in(payload):
        raise reported(request, failure, headers, payload)
    data: object = payload.get("data")
    if not isinstance(data, list):
        raise _misfit(request, payload, "has no list of vectors")
    items = cast("list[object]", data)
    if len(items) != len(request.texts):
        raise _misfit(request, payload, f"has {len(items)} vectors for {len(request.texts)} texts")
    vectors: list[array[float] | None] = [None] * len(items)
    for place, item in enumerate(items):
        position = _position(request, payload, item, place)
        if vectors[position] is not None:
            raise _misfit(request, payload, f"has two vectors for text {position}")
        vectors[position] = _vector(request, payload, cast("Json", item).get("embedding"), position)
    whole = cast("list[array[float]]", vectors)  # as many different positions as texts: each has its own
    _check_lengths(request, payload, whole)
    answered_by, request_id = payload.get("model"), headers.get("x-request-id")
    return WireVectors(
        vectors=tuple(whole),
        usage=usage if (usage := usage_in(payload)) and usage.prompt_tokens else None,
        cost_usd=cost_in(payload, request.route.provider),
        answered_by=answered_by if isinstance(answered_by, str) and answered_by else request.route.name,
        request_id=request_id or None,
    )


def _position(request: EmbeddingRequest, payload: Json, item: object, place: int) -> int:
    """Which text a vector belongs to: its `index`, which need not be its place; its place where it has none."""
    if not isinstance(item, dict):
        raise _misfit(request, payload, f"has no object at place {place} of its vectors")
    index = cast("Json", item).get("index", place)
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(request.texts):
        raise _misfit(request, payload, f"has a vector for text {index!r}, and there is no such text")
    return index


def _vector(request: EmbeddingRequest, payload: Json, value: object, position: int) -> "array[float]":
    try:
        vector = _unpacked(value) if isinstance(value, str) else array(_FLOAT32, cast("list[float]", value))
    except (Base64Error, ValueError, TypeError, OverflowError):
        raise _misfit(request, payload, f"has no readable vector for text {position}") from None
    # The sum of float32 cannot overflow a float64, so it is finite if and only if all of them are.
    if not vector or not isfinite(sum(vector)):
        raise _misfit(request, payload, f"has an empty vector, a NaN or an infinity for text {position}")
    return vector


def _unpacked(text: str) -> "array[float]":
    packed = a2b_base64(text, strict_mode=True)
    vector = array(_FLOAT32)
    vector.frombytes(packed)  # ValueError unless whole numbers of four bytes
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


def _check_lengths(request: EmbeddingRequest, payload: Json, vectors: "list[array[float]]") -> None:
    wanted = request.dimensions or len(vectors[0])
    for position, vector in enumerate(vectors):
        if len(vector) != wanted:
            problem = f"has {len(vector)} dimensions for text {position} instead of {wanted}"
            raise _misfit(request, payload, problem)


def _misfit(request: EmbeddingRequest, payload: Json, problem: str) -> InvalidAnswerError:
    data: object = payload.get("data")
    # The first vector is enough to see what came.
    shown = {**payload, "data": cast("list[object]", data)[:1]} if isinstance(data, list) else payload
    error = unreadable(request.route, problem, to_json(shown, fallback=str))
    error.usage = usage_in(payload)
    error.cost_usd = cost_in(payload, request.route.provider) or Decimal(0)
    return error
