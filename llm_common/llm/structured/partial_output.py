"""The pieces of a structured answer while they stream in, and what can be read of the object so far. Pure."""

from dataclasses import dataclass, field
from typing import Any, cast

from pydantic_core import from_json

from llm_common.llm.structured.documents import growing_document
from llm_common.llm.structured.output_modes import answer_tool
from llm_common.llm.structured.schema import OutputSpec
from llm_common.llm.wire import ToolCallDelta, WireChunk

__all__ = ["Delta", "PartialOutput"]

# Up to this size every piece is looked at anew. Reading a document of n characters after each of its pieces takes n²;
# renewed when it has grown by a 64th, it takes 64 n.
_SMALL = 4096
_GROWTH = 64


class _Document:
    """A growing JSON text. `at(length)` is the object in its first `length` characters."""

    def __init__(self, *, wrapped: bool) -> None:
        self._wrapped = wrapped
        self._pieces: list[str] = []
        self.length = 0
        self._read_up_to = 0
        self._object: Any = None

    def add(self, piece: str) -> None:
        self._pieces.append(piece)
        self.length += len(piece)

    def at(self, length: int) -> Any:
        grown = length - self._read_up_to
        if grown == 0 or (grown > 0 and self._read_up_to > _SMALL and grown < self._read_up_to // _GROWTH):
            return self._object
        found = self._read("".join(self._pieces)[:length])
        if grown > 0:
            self._read_up_to, self._object = length, found
        return found

    def _read(self, text: str) -> Any:
        document = growing_document(text)
        if not document:
            return None
        try:
            found: Any = from_json(document, allow_partial="trailing-strings")
        except ValueError:
            return None  # no JSON; at its end the answer is refused
        return found.get("value") if self._wrapped else found


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer: text, pieces of tool calls, or both. With a `response_model` the text is JSON.

    `partial` is what has arrived of the structured answer: plain dicts, lists, strings and numbers under the names of
    the JSON schema, or None before its first brace. It is not validated: keys are missing that have not come yet, and
    the last string or number may still grow. Beyond 4,096 characters it is renewed when the answer has grown by a 64th,
    so it may be a little behind. It is read only when you ask for it; copy it before you change it.
    """

    text: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    _document: _Document | None = field(default=None, repr=False, compare=False)
    _length: int = field(default=0, repr=False, compare=False)

    @property
    def partial(self) -> Any:
        return None if self._document is None else self._document.at(self._length)


class PartialOutput:
    """Makes the deltas of one stream: the pieces of the answer's tool, where it comes that way, are text like any."""

    def __init__(self, spec: OutputSpec[Any] | None, tools: tuple[Any, ...]) -> None:
        self._spec = spec
        self._tool = None if spec is None else answer_tool(spec, tools)
        self._document = None if spec is None else _Document(wrapped=spec.wrapped)
        self._answers: set[int] = set()
        self._called: int | None = None

    def delta(self, chunk: WireChunk) -> Delta:
        """What the caller gets of a chunk."""
        if self._document is None:
            return Delta(chunk.text, chunk.tool_calls)
        if chunk.text and self._called is None:
            self._document.add(chunk.text)
        text, others = [chunk.text], list[ToolCallDelta]()
        for piece in chunk.tool_calls:
            if self._is_of_answer(piece):
                text.append(self._answered(piece))
            else:
                others.append(piece)
        return Delta("".join(text), tuple(others), self._document, self._document.length)

    def _is_of_answer(self, piece: ToolCallDelta) -> bool:
        if piece.name:
            (self._answers.add if piece.name == self._tool else self._answers.discard)(piece.index)
        return piece.index in self._answers

    def _answered(self, piece: ToolCallDelta) -> str:
        """The first call is the answer: what was written before it was no document."""
        if self._called is None:
            self._called = piece.index
            self._document = _Document(wrapped=cast("OutputSpec[Any]", self._spec).wrapped)
        if piece.index != self._called:
            return ""
        cast("_Document", self._document).add(piece.arguments)
        return piece.arguments
