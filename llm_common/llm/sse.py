"""Server-sent events, read piece by piece as they arrive. Pure.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html. Only `data` is kept: comments
(": OPENROUTER PROCESSING"), names, ids and retry hints say nothing about an answer.
"""

__all__ = ["EventReader", "EventTooLargeError"]

#: A chunk with an image in it has some megabytes; more without an end of line is not a stream of events.
_LONGEST_EVENT = 16 * 1024 * 1024


class EventTooLargeError(ValueError):
    """One event is larger than any answer: the other side does not speak this format."""


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

    def feed(self, received: bytes) -> list[bytes]:
        """The data of each event that `received` completes. Raises `EventTooLargeError` beyond 16 MiB."""
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
        events = self._events(b"".join((*self._line, b"\n\n")))
        self._line.clear()
        return events

    def _events(self, lines: bytes) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        for line in lines.splitlines():
            if not line:
                if data:
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
                    self._data_bytes = 0
            elif line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
                self._data_bytes += len(line)
        return events

    def _begin_line(self, piece: bytes) -> None:
        self._line.append(piece)
        self._line_bytes += len(piece)
        if self._line_bytes + self._data_bytes > self._longest:
            raise EventTooLargeError(f"an event of more than {self._longest} bytes")
