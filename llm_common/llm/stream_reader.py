"""The bytes of a response, whole or streamed, as answers and chunks: the same for every wire and every format. Pure.

A response is judged by what it is, not by its content type: events where lines begin with a field's name, a whole
document where it begins with a brace (or with a page's angle bracket).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Protocol

from llm_common.exceptions import ConnectionFailedError, InvalidAnswerError
from llm_common.llm.error_parsing import error_in
from llm_common.llm.json_text import HalfCharacters, json_object, parsed, unreadable, with_halves
from llm_common.llm.response_parsing import answer_in, as_chunk, chunk_in, failed_midway, is_failure
from llm_common.llm.sse import ErrorData, EventReader, EventTooLargeError
from llm_common.llm.streamed_answer import StreamedAnswer
from llm_common.llm.token_usage import merge_usage
from llm_common.llm.tool_call_pieces import AmbiguousCallError, ToolCallPieces
from llm_common.llm.wire import Route, ToolCallDelta, WireAnswer, WireChunk, WireRequest
from llm_common.usage import Usage

__all__ = ["OPENAI", "Format", "StreamReader", "cut_short", "read_answer", "too_large"]

Json = Mapping[str, Any]
Headers = Mapping[str, str]

#: Where an answer begins, at the latest.
_LONGEST_START = 256
_BLANK = b" \t\r\n\xef\xbb\xbf"
#: An answer with several images in it stays well below; more is not an answer.
_LARGEST_DOCUMENT = 64 * 1024 * 1024
_BEGINS_A_DOCUMENT = (b"{", b"[", b"<", b'"')
_BEGINS_AN_EVENT = (b"data:", b"event:", b"id:", b"retry:", b":")


def _is_event(begin: bytes) -> bool:
    """Whether a stream of events may begin so."""
    return any(begin.startswith(name) or name.startswith(begin) for name in _BEGINS_AN_EVENT)


class EventParser(Protocol):
    """Reads the events of one stream, in order. `done`: the last one has come."""

    done: bool

    def chunk(self, payload: Json) -> WireChunk:
        """What one event says. Raises the typed error that it may carry."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """How some providers write answers: a whole one, and the events of a stream."""

    answer: Callable[[WireRequest, Json, Headers], WireAnswer]
    events: Callable[[WireRequest, Headers], EventParser]


class _OpenAIEvents:
    done = False  # [DONE] says it

    def __init__(self, request: WireRequest, headers: Headers) -> None:
        self._request = request
        self._headers = headers

    def chunk(self, payload: Json) -> WireChunk:
        return chunk_in(self._request, payload, self._headers)


OPENAI = Format(answer_in, _OpenAIEvents)


def read_answer(written: Format, request: WireRequest, body: bytes, headers: Headers) -> WireAnswer:
    """The answer in a whole response, also where a server streamed it without being asked to."""
    if not body[:_LONGEST_START].lstrip(_BLANK).startswith(_BEGINS_AN_EVENT):
        return written.answer(request, json_object(request.route, body), headers)
    reader, seen = StreamReader(written, request, headers), StreamedAnswer()
    for chunk in (*reader.feed(body), *reader.end()):
        seen.add(chunk)
    return seen.answer(request.route)


class StreamReader:
    """`feed(bytes)` gives the chunks that are complete by now, `end()` those that are left.

    `finished`: the model has said why it stopped; `counted`: and the provider what was used; `done`: nothing follows.
    Both methods raise typed errors: the one that an event carries, or that the stream was cut or failed.
    """

    def __init__(self, written: Format, request: WireRequest, headers: Headers) -> None:
        self._format = written
        self._request = request
        self._headers = headers
        self._parser = written.events(request, headers)
        self._events = EventReader()
        self._calls = ToolCallPieces(request.tool_names if request.tools else ())
        self._halves: HalfCharacters | None = None
        #: What has come until it is known whether these are events; None once they are.
        self._unknown: bytes | None = b""
        self._document: list[bytes] = []
        #: How it began, where that is neither an event nor a document.
        self._words: bytes | None = None
        self._size = 0
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._cost_usd: Decimal | None = None
        self.counted = False
        self.done = False

    @property
    def finished(self) -> bool:
        return self._reason is not None

    def feed(self, received: bytes) -> Iterator[WireChunk]:
        if self._unknown is not None:
            received = self._unknown = self._unknown + received
            begin = received.lstrip(_BLANK)
            if not begin:
                return iter(())
            self._unknown = None
            if begin.startswith(_BEGINS_A_DOCUMENT):
                self._document.append(b"")
            elif not _is_event(begin):
                self._words = begin
        if self._document:
            return self._gather(received)
        try:
            events = self._events.feed(received)
        except EventTooLargeError:
            raise too_large(self._request.route, "an event") from None
        return self._chunks(events)

    def end(self) -> Iterator[WireChunk]:
        """The last chunks. Raises where the stream was cut, or its provider failed."""
        if self._document:
            whole = self._format.answer(
                self._request, json_object(self._request.route, b"".join(self._document)), self._headers
            )
            yield as_chunk(whole)
            return
        if not self.done:
            yield from self._chunks(self._events.end())
        if self._halves is not None:
            yield from self._rest(self._halves)
        if is_failure(self._reason):
            raise failed_midway(self._request.route, self._reason, usage=self._usage, cost_usd=self._cost_usd)
        if self.finished or self.done:
            return
        if self._words is not None:
            raise unreadable(self._request.route, "is no stream of events", self._words)
        raise cut_short(self._request.route)

    def _gather(self, received: bytes) -> Iterator[WireChunk]:
        self._size += len(received)
        if self._size > _LARGEST_DOCUMENT:
            raise too_large(self._request.route, "an answer")
        self._document.append(received)
        return iter(())

    def _chunks(self, events: list[bytes]) -> Iterator[WireChunk]:
        for data in events:
            if data == b"[DONE]":
                self.done = True
                return
            if not data:
                continue
            chunk = self._parser.chunk(self._payload(data))
            if chunk.tool_calls:
                chunk = replace(chunk, tool_calls=tuple(self._placed(chunk)))
            if self._halves is not None:
                chunk = self._whole(chunk, self._halves)
            if chunk.finish_reason is not None:
                self._reason = chunk.finish_reason
            if chunk.usage is not None:
                self._usage, self._cost_usd = merge_usage(self._usage, chunk.usage), chunk.cost_usd
                self.counted = self.finished
            self.done = self._parser.done
            yield chunk

    def _payload(self, data: bytes) -> Json:
        try:
            payload = parsed(self._request.route, data)
        except ValueError:
            payload = with_halves(self._request.route, data)
            self._halves = self._halves or HalfCharacters()
        if type(data) is ErrorData and not error_in(payload):
            return {"error": payload}
        return payload

    def _placed(self, chunk: WireChunk) -> Iterator[ToolCallDelta]:
        for piece in chunk.tool_calls:
            try:
                placed = self._calls.placed(piece)
            except AmbiguousCallError as error:
                raise _mixed_calls(self._request.route, error) from error
            if placed is not None:
                yield placed

    def _whole(self, chunk: WireChunk, halves: HalfCharacters) -> WireChunk:
        def joined(channel: object, piece: str) -> str:
            return halves.joined(channel, piece, is_last=chunk.finish_reason is not None)

        calls = tuple(replace(piece, arguments=joined(piece.index, piece.arguments)) for piece in chunk.tool_calls)
        return replace(
            chunk, text=joined("text", chunk.text), reasoning=joined("reasoning", chunk.reasoning), tool_calls=calls
        )

    def _rest(self, halves: HalfCharacters) -> Iterator[WireChunk]:
        for channel, text in halves.rest().items():
            if isinstance(channel, int):
                yield WireChunk(tool_calls=(ToolCallDelta(index=channel, arguments=text),))
            else:
                yield WireChunk(text=text) if channel == "text" else WireChunk(reasoning=text)


def too_large(route: Route, what: str) -> InvalidAnswerError:
    """More bytes than any answer has."""
    return InvalidAnswerError(
        f"{route.provider} sent {what} for {route.name} beyond the size limit. Check the base URL.",
        provider=route.provider,
        model=route.name,
        status=200,
        maybe_billed=True,
    )


def _mixed_calls(route: Route, error: AmbiguousCallError) -> InvalidAnswerError:
    return InvalidAnswerError(
        f"{route.provider} streamed tool calls of {route.name} that cannot be told apart: {error}. "
        "Ask with complete(), or with parallel_tool_calls=False.",
        provider=route.provider,
        model=route.name,
        status=200,
        maybe_billed=True,
    )


def cut_short(route: Route) -> ConnectionFailedError:
    """A stream that ended without saying so."""
    return ConnectionFailedError(
        f"the stream of {route.provider} for {route.name} ended before the answer was complete. Ask again.",
        provider=route.provider,
        model=route.name,
        status=200,
        maybe_billed=True,
    )
