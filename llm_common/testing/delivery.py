"""Carries out a plan on one connection, and notes what the client saw of it."""

import asyncio
import socket
import struct
from typing import Final

from aiohttp import web

from llm_common.testing.journal import Entry
from llm_common.testing.plan import Ending, Plan

__all__ = ["deliver"]

#: SO_LINGER with a time of zero: closing sends RST instead of FIN.
_RESET: Final = struct.pack("ii", 1, 0)


async def deliver(request: web.Request, plan: Plan, entry: Entry) -> web.StreamResponse:
    """Write what `plan` says. Cancelled, by aiohttp, as soon as the client has left."""
    if plan.outcome != "answered":
        entry.outcome = plan.outcome
    entry.cost_usd = plan.cost_at_start
    try:
        response = await _write(request, plan, entry)
    except (asyncio.CancelledError, ConnectionError):
        _note_departure(request, entry)
        raise
    if plan.ending == "complete" and response is not None:
        return response
    try:
        _end(request, plan.ending)
        # The lost connection cancels this; a stalled one, when the client loses its patience.
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if plan.ending == "stall":
            _note_departure(request, entry)
        raise
    raise AssertionError("an event that nobody sets was set")


async def _write(request: web.Request, plan: Plan, entry: Entry) -> web.StreamResponse | None:
    if plan.delay:
        await asyncio.sleep(plan.delay)
    if plan.status is None:
        return None
    response = web.StreamResponse(status=plan.status, headers=dict(plan.headers))
    response.content_type = plan.content_type
    if plan.length is None:
        response.enable_chunked_encoding()
    else:
        response.content_length = plan.length
    if not plan.chunks:
        entry.outcome = plan.outcome
    await response.prepare(request)
    for index, chunk in enumerate(plan.chunks):
        # Also without a pause the loop must get its turn, or nobody notices that the client has left.
        await asyncio.sleep(plan.pause if index else 0)
        if index == len(plan.chunks) - 1:
            # Before the bytes go out: whoever has read them may look at once at what was noted.
            entry.outcome = plan.outcome
        if chunk.cost_usd is not None:
            entry.cost_usd = chunk.cost_usd
        entry.chunks_sent += chunk.counts
        if chunk.data:
            await response.write(chunk.data)
    return response


def _note_departure(request: web.Request, entry: Entry) -> None:
    if request.transport is not None and not request.transport.is_closing():
        return  # The client is still there: it is the server that closes.
    entry.client_left = True
    if not entry.outcome.startswith(("fault:", "refused:")):
        entry.outcome = "disconnected"


def _end(request: web.Request, ending: Ending) -> None:
    transport = request.transport
    if transport is None or ending == "stall":
        return
    if ending == "close":
        transport.close()
        return
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
