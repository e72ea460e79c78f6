"""Which call each streamed piece of a tool call belongs to. Pure.

OpenAI tells it by `index`, and sends id and name with the first piece only. Others repeat them in every piece, send
every call whole under the same index, send no id or one for all, cut names in pieces, or begin a call again under
another index. So neither index nor id is the call's identity: both are hints, and whole arguments end a call.
"""

from collections.abc import Collection
from dataclasses import replace

from pydantic_core import from_json

from llm_common.llm.wire import ToolCallDelta

__all__ = ["AmbiguousCallError", "ToolCallPieces"]


class AmbiguousCallError(ValueError):
    """Nobody can tell whether a piece goes on with a call or begins another."""


class _Call:
    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        self._pieces: list[str] = []

    def add(self, piece: ToolCallDelta) -> None:
        self.id = piece.id or self.id
        self.name = piece.name or self.name
        self._pieces.append(piece.arguments)

    @property
    def arguments(self) -> str:
        return "".join(self._pieces)

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are a JSON object by now, to which nothing can be added."""
        try:
            return isinstance(from_json(self.arguments), dict)
        except ValueError:
            return False


class ToolCallPieces:
    """Gives each call of one stream an index of its own. `tools` are the names that the request offers."""

    def __init__(self, tools: Collection[str] = ()) -> None:
        self._tools = tools
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}

    def placed(self, piece: ToolCallDelta) -> ToolCallDelta | None:
        """The piece under its call's index, with the call's whole name; None where it only repeats what was said.

        Raises `AmbiguousCallError`.
        """
        call = self._at.get(piece.index)
        if call is not None and piece.name is None and not piece.id:  # the usual piece
            call.add(piece)
            return piece if call.index == piece.index else replace(piece, index=call.index)
        if piece.id and (call is None or call.id != piece.id):
            known = next((other for other in self._calls if other.id == piece.id), None)
            if known and piece.name in (None, known.name) and piece.arguments.startswith(known.arguments):
                self._at[piece.index] = call = known
                piece = replace(piece, arguments=piece.arguments[len(known.arguments) :])
                if known.is_whole:
                    return None
        if call is None or self._begins_another(call, piece):
            call = self._at[piece.index] = _Call(len(self._calls))
            self._calls.append(call)
        elif piece.id and piece.id == call.id and piece.arguments and piece.arguments == call.arguments:
            return None
        elif piece.name and call.name + piece.name in self._tools:
            piece = replace(piece, name=call.name + piece.name)
        call.add(piece)
        return replace(piece, index=call.index)

    def _begins_another(self, call: _Call, piece: ToolCallDelta) -> bool:
        if piece.id and call.id and piece.id != call.id:
            return True
        if not piece.name or not call.name:
            return False
        if call.is_whole:
            repeated = piece.id and piece.id == call.id and piece.arguments == call.arguments
            return not repeated and (bool(piece.arguments.strip()) or piece.name != call.name)
        if piece.name == call.name or (piece.id and piece.id == call.id):
            return False
        if not call.arguments and call.name + piece.name in self._tools:
            return False
        if not call.arguments and call.name in self._tools and piece.name in self._tools:
            return True  # a call without arguments came before
        raise AmbiguousCallError(f"{call.name!r} is not complete, and {piece.name!r} follows under the same index")
