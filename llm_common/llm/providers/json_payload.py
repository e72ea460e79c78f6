"""The body of a request, written in pieces."""

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

__all__ = ["JsonPayload"]

_PIECE = 256 * 1024


class JsonPayload(Payload):
    """JSON bytes. `begun` tells whether any of it has gone out: from then on the provider may bill.

    aiohttp writes plain bytes in one go, which holds the event loop up for prompts of megabytes.
    """

    def __init__(self, value: bytes) -> None:
        super().__init__(value, content_type="application/json")
        self._size = len(value)
        self.begun = False

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        self.begun = True
        if len(self._value) <= _PIECE:
            await writer.write(self._value)
            return
        for start in range(0, len(self._value), _PIECE):
            await writer.write(self._value[start : start + _PIECE])
