"""Server-sent events, read piece by piece as they arrive. Pure.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html. By hand: aiohttp has no reader
of them, and httpx-sse reads httpx's responses only. Kept is `data`, and whether the event is named `error`: comments
(": OPENROUTER PROCESSING"), other names, ids and retry hints say nothing about an answer. A bare line of JSON, as
servers send when they fail in mid-stream, is an event of its own.
"""

from codecs import BOM_UTF8

__all__ = ["ErrorData", "EventReader", "EventTooLargeError"]

#: A chunk with an image in it has some megabytes; more without an end of line is not a stream of events.
_LONGEST_EVENT = 16 * 1024 * 1024


class EventTooLargeError(ValueError):
    """One event is larger than any answer: the other side does not speak this format."""


class ErrorData(bytes):
    """The data of an event whose name is `error`."""


class EventReader:
    """`feed(bytes)` gives the data of the events that are complete by now; `end()` the last one without its blank line.

    Works on bytes, so that a character cut in two by the network is whole again before it is decoded.
    """

    def __init__(self, *, longest_event: int = _LONGEST_EVENT) -> None:
        self._longest = longest_event
        self._line: list[bytes] = []
        self._line_bytes = 0
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._is_error = False
        #: What has come of a byte order mark; None once it is known whether there is one.
        self._mark: bytes | None = b""

    def feed(self, received: bytes) -> list[bytes]:
        """The data of each event that `received` completes. Raises `EventTooLargeError` beyond 16 MiB."""
        if self._mark is not None:
            received = self._without_mark(self._mark + received)
        if b"\n" not in received and b"\r" not in received:
            self._begin_line(received)
            return []
        if self._line:
            received = b"".join((*self._line, received))
            self._line.clear()
            self._line_bytes = 0
        # A carriage return at the very end may be the first half of a line end.
        end = 1 + max(received.rfind(b"\n"), received.rfind(b"\r", 0, -1))
        events = self._events(received[:end])
        if end < len(received) or self._data:
            self._begin_line(received[end:])
        return events

    def end(self) -> list[bytes]:
        """What is left when the connection closes: many servers omit the blank line after the last event."""
        events = self._events(b"".join((self._mark or b"", *self._line, b"\n\n")))
        self._line.clear()
        return events

    def _events(self, lines: bytes) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        for line in lines.splitlines():
            if not line:
                if data:
                    whole = data[0] if len(data) == 1 else b"\n".join(data)
                    events.append(ErrorData(whole) if self._is_error else whole)
                    data.clear()
                    self._data_bytes = 0
                self._is_error = False
            elif line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
                self._data_bytes += len(line)
            elif line.startswith(b"{"):
                events.append(line)
            elif line.startswith(b"event:"):
                self._is_error = line[6:].strip() == b"error"
        return events

    def _without_mark(self, received: bytes) -> bytes:
        """What comes behind the one byte order mark that may stand at the very beginning."""
        if len(received) < len(BOM_UTF8) and BOM_UTF8.startswith(received):
            self._mark = received
            return b""
        self._mark = None
        return received.removeprefix(BOM_UTF8)

    def _begin_line(self, piece: bytes) -> None:
        self._line.append(piece)
        self._line_bytes += len(piece)
        if self._line_bytes + self._data_bytes > self._longest:
            raise EventTooLargeError(f"an event of more than {self._longest} bytes")
