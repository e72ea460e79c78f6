"""The pieces of a stream, put together. Pure."""

from dataclasses import replace
from decimal import Decimal

from llm_common.llm.response_parsing import judged
from llm_common.llm.token_usage import merge_usage
from llm_common.llm.wire import Route, ToolCallDelta, WireAnswer, WireChunk
from llm_common.models import ToolCall
from llm_common.usage import Usage

__all__ = ["StreamedAnswer"]


class StreamedAnswer:
    """`add` each chunk; the fields are what has arrived so far. `output_bytes` has reasoning and arguments in it."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._calls: dict[int, _GrowingCall] = {}
        self._media = False
        #: How much of the output had come when the provider counted it last.
        self._counted_bytes = 0
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
        return tuple(call.so_far() for call in self._calls.values())

    def add(self, chunk: WireChunk) -> None:
        if chunk.text:
            self._pieces.append(chunk.text)
        self.output_bytes += len(chunk.text.encode()) + len(chunk.reasoning.encode())
        for delta in chunk.tool_calls:
            self.output_bytes += len(delta.arguments.encode())
            self._calls.setdefault(delta.index, _GrowingCall()).add(delta)
        self._media = self._media or chunk.media
        # A refusal is told in its pieces; the end of the stream then says "stop".
        if self.finish_reason != "refusal":
            self.finish_reason = chunk.finish_reason or self.finish_reason
        self.answered_by = self.answered_by or chunk.answered_by
        self.request_id = self.request_id or chunk.request_id
        if chunk.usage is not None:
            self.usage = usage = merge_usage(self.usage, chunk.usage)
            if chunk.usage.output_tokens == usage.output_tokens:
                self._counted_bytes = self.output_bytes
        if chunk.cost_usd is not None:
            self.cost_usd = max(self.cost_usd or Decimal(0), chunk.cost_usd)

    def used(self, prompt_bound: int) -> tuple[Usage, bool]:
        """What was used, and whether the provider counted all of it.

        What it did not count is taken at its most: the prompt at `prompt_bound`, each byte of the answer as a token.
        """
        usage = self.usage or Usage()
        counted = self._counted_bytes if usage.output_tokens else 0
        if usage.prompt_tokens and counted == self.output_bytes:
            return usage, True
        prompt = usage.input_tokens if usage.prompt_tokens else prompt_bound
        output = usage.output_tokens + self.output_bytes - counted
        return replace(usage, input_tokens=prompt, output_tokens=output), False

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
        _, counted = self.used(0)
        answer = self.so_far(route)
        return judged(route, answer if counted else replace(answer, usage=None), media=self._media)


class _GrowingCall:
    def __init__(self) -> None:
        self.id = ""
        self._name = ""
        self._arguments: list[str] = []

    def add(self, delta: ToolCallDelta) -> None:
        # They come whole, in some streams with every piece.
        self.id = delta.id or self.id
        self._name = delta.name or self._name
        self._arguments.append(delta.arguments)

    def so_far(self) -> ToolCall:
        return ToolCall(id=self.id, name=self._name, arguments="".join(self._arguments))
