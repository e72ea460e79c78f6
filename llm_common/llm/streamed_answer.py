"""The pieces of a stream, put together. Pure."""

from decimal import Decimal

from llm_common.llm.response_parsing import judged
from llm_common.llm.wire import Route, ToolCallDelta, WireAnswer, WireChunk
from llm_common.models import ToolCall
from llm_common.usage import Usage

__all__ = ["StreamedAnswer"]


class StreamedAnswer:
    """`add` each chunk; the fields are what has arrived so far. `output_bytes` has reasoning and arguments in it."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._calls: list[_GrowingCall] = []
        self._call_at: dict[int, _GrowingCall] = {}
        self.finish_reason: str | None = None
        self.answered_by: str | None = None
        self.request_id: str | None = None
        self.output_bytes = 0
        self.usage: Usage | None = None
        self.cost_usd: Decimal | None = None

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls in the order in which they began."""
        return tuple(call.so_far() for call in self._calls)

    def add(self, chunk: WireChunk) -> None:
        if chunk.text:
            self._pieces.append(chunk.text)
        self.output_bytes += len(chunk.text.encode()) + len(chunk.reasoning.encode())
        for delta in chunk.tool_calls:
            self.output_bytes += len(delta.arguments.encode())
            self._add_to_call(delta)
        # A refusal is told in its pieces; the end of the stream then says "stop".
        if self.finish_reason != "refusal":
            self.finish_reason = chunk.finish_reason or self.finish_reason
        self.answered_by = self.answered_by or chunk.answered_by
        self.request_id = self.request_id or chunk.request_id
        self.usage = chunk.usage or self.usage
        self.cost_usd = self.cost_usd if chunk.cost_usd is None else chunk.cost_usd

    def so_far(self, route: Route) -> WireAnswer:
        """What has arrived, as an answer."""
        return WireAnswer(
            text=self.text,
            tool_calls=self.tool_calls,
            finish_reason=self.finish_reason,
            usage=self.usage,
            cost_usd=self.cost_usd,
            answered_by=self.answered_by or route.name,
            request_id=self.request_id,
            raw={},
        )

    def answer(self, route: Route) -> WireAnswer:
        """The whole answer, once the stream has ended. Raises like `judged` where the model said nothing."""
        return judged(route, self.so_far(route))

    def _add_to_call(self, delta: ToolCallDelta) -> None:
        call = self._call_at.get(delta.index)
        # Some servers send every call whole and under the same index: another id is another call.
        if call is None or (delta.id and call.id and delta.id != call.id):
            call = self._call_at[delta.index] = _GrowingCall()
            self._calls.append(call)
        call.add(delta)


class _GrowingCall:
    def __init__(self) -> None:
        self.id = ""
        self._name = ""
        self._arguments: list[str] = []

    def add(self, delta: ToolCallDelta) -> None:
        # Some servers repeat id and name in every piece: they are set, never appended.
        self.id = delta.id or self.id
        self._name = delta.name or self._name
        self._arguments.append(delta.arguments)

    def so_far(self) -> ToolCall:
        return ToolCall(id=self.id, name=self._name, arguments="".join(self._arguments))
