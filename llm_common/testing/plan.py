"""Decides what goes over the wire, before any of it does. Pure: the server only carries plans out."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final, Literal

from llm_common.testing.errors import ErrorAnswer, Problem, error_answer, problem_of
from llm_common.testing.faults import ANSWER_FAULTS, Fault
from llm_common.testing.served import Chunk, Served

__all__ = ["Ending", "Plan", "plan_answer", "plan_error", "plan_fault"]

#: `complete`: as HTTP demands. `close`: the connection ends too early. `reset`: it is torn down. `stall`: silence.
Ending = Literal["complete", "close", "reset", "stall"]

_JSON: Final = "application/json"
_SSE: Final = "text/event-stream"
_DRIPS: Final = 8
_GATEWAY_PAGE: Final = (
    b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to write, and how to end.

    `status` None: no head is sent at all. `length` is the Content-Length that is announced; None: chunked.
    `delay` comes before the head, `pause` between chunks, both in seconds. `cost_at_start` is billed even if the
    client does not wait for the first byte.
    """

    outcome: str
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content_type: str = _JSON
    chunks: tuple[Chunk, ...] = ()
    ending: Ending = "complete"
    length: int | None = None
    delay: float = 0.0
    pause: float = 0.0
    cost_at_start: Decimal | None = None


def plan_answer(served: Served) -> Plan:
    """Nothing goes wrong. Without a stream, the model has worked (and is paid) before the first byte is sent."""
    plan = Plan(
        outcome="answered",
        status=200,
        headers=served.headers,
        delay=served.delay,
        pause=served.seconds_per_chunk,
    )
    if served.events is not None:
        return replace(plan, content_type=_SSE, chunks=served.events)
    whole = Chunk(served.payload, cost_usd=served.cost_usd)
    return replace(plan, chunks=(whole,), length=len(served.payload), cost_at_start=served.cost_usd)


def plan_error(outcome: str, answer: ErrorAnswer, delay: float = 0.0) -> Plan:
    """An error answer, for which nothing is billed."""
    body = json.dumps(answer.body, ensure_ascii=False).encode()
    return Plan(
        outcome=outcome,
        status=answer.status,
        headers=answer.headers,
        chunks=(Chunk(body),),
        length=len(body),
        delay=delay,
    )


def plan_fault(fault: Fault, served: Served, request_id: str) -> Plan:
    """`fault` happens to a request that would have been `served`."""
    problem = problem_of(fault, served.model)
    if problem is not None:
        answer = error_answer(served.provider, problem, request_id)
        return plan_error(f"fault:{fault.name}", answer, fault.delay)
    # What the model says is wrong already; it is delivered as any answer.
    plan = plan_answer(served) if fault.name in ANSWER_FAULTS else _DELIVERIES[fault.name](fault, served)
    return replace(plan, outcome=f"fault:{fault.name}", delay=fault.delay)


def _head(fault: Fault, served: Served) -> Plan:
    """The answer up to where the fault strikes."""
    plan = plan_answer(served)
    if served.events is None:
        half = served.payload[: len(served.payload) // 2]
        return replace(plan, chunks=(Chunk(half, cost_usd=served.cost_usd),))
    last = _position_after(served.events, fault.after)
    return replace(plan, chunks=served.events[:last])


def _position_after(events: tuple[Chunk, ...], count: int) -> int:
    """Where the events end that bring `count` content deltas, or as many as there are."""
    positions = [index for index, event in enumerate(events) if event.counts]
    if not positions:
        return len(events) - 1
    return positions[min(count, len(positions)) - 1] + 1 if count > 0 else positions[0]


def _cut(fault: Fault, served: Served) -> Plan:
    return replace(_head(fault, served), ending="close")


def _stall_midway(fault: Fault, served: Served) -> Plan:
    return replace(_head(fault, served), ending="stall")


def _end_early(fault: Fault, served: Served) -> Plan:
    return _complete(_head(fault, served))


def _complete(plan: Plan) -> Plan:
    length = None if plan.length is None else sum(len(chunk.data) for chunk in plan.chunks)
    return replace(plan, length=length)


def _truncated(_fault: Fault, served: Served) -> Plan:
    whole = _head(Fault(name="truncated_json", after=len(served.events or ())), served)
    if served.events is None:
        return _complete(whole)
    last = whole.chunks[-1]
    return replace(whole, chunks=(*whole.chunks[:-1], replace(last, data=last.data[: len(last.data) // 2])))


def _slow(fault: Fault, served: Served) -> Plan:
    plan = replace(plan_answer(served), pause=fault.seconds_per_chunk)
    if served.events is not None:
        return plan
    step = max(1, -(-len(served.payload) // _DRIPS))
    drips = [served.payload[start : start + step] for start in range(0, len(served.payload), step)]
    return replace(plan, chunks=tuple(Chunk(drip, cost_usd=served.cost_usd) for drip in drips))


def _reset_after_bytes(fault: Fault, served: Served) -> Plan:
    plan = replace(plan_answer(served), ending="reset")
    chunks: list[Chunk] = []
    left = fault.after
    for chunk in plan.chunks:
        if len(chunk.data) > left:
            billed = chunks[-1].cost_usd if chunks else plan.cost_at_start
            chunks.append(Chunk(chunk.data[:left], cost_usd=billed))
            break
        chunks.append(chunk)
        left -= len(chunk.data)
    return replace(plan, chunks=tuple(chunks))


def _error_in_200(fault: Fault, served: Served) -> Plan:
    problem = Problem(kind="server", status=fault.status, message=fault.message)
    if served.events is not None:
        chunk = Chunk(served.error_event(problem))
        return Plan(outcome="", status=200, content_type=_SSE, chunks=(chunk,))
    answer = error_answer(served.provider, problem, "")
    return replace(plan_error("", answer), status=200)


def _error_mid_stream(fault: Fault, served: Served) -> Plan:
    if served.events is None:
        return replace(_error_in_200(fault, served), cost_at_start=served.cost_usd)
    plan = _head(fault, served)
    problem = Problem(kind="server", status=fault.status, message=fault.message or "Upstream died in mid-answer")
    event = Chunk(served.error_event(problem), cost_usd=plan.chunks[-1].cost_usd if plan.chunks else None)
    return replace(plan, chunks=(*plan.chunks, event))


def _words(content_type: str, data: bytes) -> Callable[[Fault, Served], Plan]:
    plan = Plan(outcome="", status=200, content_type=content_type, chunks=(Chunk(data),), length=len(data))
    return lambda _fault, _served: plan


def _redirect(fault: Fault, _served: Served) -> Plan:
    return Plan(outcome="", status=307, headers={"Location": fault.location or "/"}, length=0)


def _silence(ending: Ending) -> Callable[[Fault, Served], Plan]:
    return lambda _fault, _served: Plan(outcome="", ending=ending)


_DELIVERIES: Final[Mapping[str, Callable[[Fault, Served], Plan]]] = {
    "reset_before_bytes": _silence("reset"),
    "stall": _silence("stall"),
    "reset_after_bytes": _reset_after_bytes,
    "stall_mid_stream": _stall_midway,
    "slow_drip": _slow,
    "cut_stream": _cut,
    "end_stream_early": _end_early,
    "truncated_json": _truncated,
    "not_json": _words(_JSON, b"upstream connect error or disconnect/reset before headers"),
    "wrong_content_type": _words("text/html", _GATEWAY_PAGE),
    "error_in_200": _error_in_200,
    "error_mid_stream": _error_mid_stream,
    "redirect": _redirect,
}
