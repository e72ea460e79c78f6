"""One story per namespace of `Database`: each of its methods, called at least once, and what it answered."""

import asyncio
import dataclasses
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from llm_common.db.functions.conversations import ConversationFunctions
from llm_common.db.functions.ledger import LedgerFunctions, Limit, external_json, outcome_json, planned_json
from llm_common.db.functions.queue import QueueFunctions
from llm_common.db.functions.response_cache import ResponseCacheFunctions
from llm_common.db.functions.rollout import ArmOutcome, RolloutFunctions
from llm_common.db.functions.runs import Lease, RunFunctions, StepOutput
from llm_common.db.functions.search_cache import SearchCacheFunctions
from llm_common.db.functions.search_documents import SearchDocumentFunctions
from llm_common.exceptions import LLMCommonError
from llm_common.models import CostMetrics, Outcome, PlannedCall, Usage

__all__ = ["SCENARIOS", "Transcript"]


class Transcript:
    """What was called, and what came back; an error is an answer too."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Any]] = []
        #: The methods that gave more than an error.
        self.answered: set[str] = set()

    async def note(self, answer: Awaitable[Any]) -> Any:
        """Wait for a method's answer and write it down under the method's name."""
        name = getattr(answer, "__name__", "?")
        try:
            value = await answer
        except LLMCommonError as error:
            told = {name: value for name, value in vars(error).items() if not name.startswith("_")}
            self.entries.append((name, (type(error).__name__, str(error), told)))
            return None
        self.entries.append((name, value))
        self.answered.add(name)
        return value

    def without_chance(self) -> list[tuple[str, str]]:
        """Ids and times differ from run to run: ids are numbered as they appear, times are only said to be there."""
        known: dict[str, str] = {}

        def number(match: re.Match[str]) -> str:
            return known.setdefault(match[0], f"<id {len(known)}>")

        told: list[tuple[str, str]] = []
        for name, value in self.entries:
            text = repr(dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value)
            text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", number, text)
            text = re.sub(r"datetime\.datetime\([^)]*?(tzinfo=[\w.]+)[^)]*\)", r"<time \1>", text)
            text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*", "<time>", text)
            text = re.sub(r"('(?:fresh|wait)_seconds': )[1-9][\d.]+", r"\1<some>", text)
            told.append((name, text))
        return told


def _id(number: int) -> str:
    return str(UUID(int=number + 2**127))


_WORDS = "ünïcode “quotes” 🙂 100 % {} \\ '"


async def ledger(functions: LedgerFunctions, transcript: Transcript, _: Any) -> None:
    note, limits = transcript.note, (Limit("project", "day", 10_000_000_000, 0.5), Limit("user:u", "total", 5 * 10**9))

    def planned(number: int, bound: int) -> dict[str, Any]:
        call = PlannedCall(
            kind="chat",
            model="m/ü",
            provider="openai",
            bound_nano=bound,
            step="research",
            user_id="u",
            tags={"team": _WORDS},
        )
        return planned_json(call, project="p", call_id=_id(number))

    def outcome(cost: int, **changes: Any) -> dict[str, Any]:
        values: dict[str, Any] = {"price_source": "provider", "status": "ok", "usage": Usage(10, 20, 30, 40, 5)}
        return outcome_json(
            Outcome(model="m/ü", provider="openai", cost_nano=cost, answered_by="m-2", seconds=1.25, **values | changes)
        )

    await note(functions.set_time_zone("p", "UTC"))
    await note(functions.set_time_zone("p", "Mars/Olympus"))
    await note(functions.reserve(planned(1, 4_000_000_001), limits, hold_seconds=60.0))
    await note(functions.reserve(planned(1, 4_000_000_001), limits, hold_seconds=60.0))
    await note(functions.reserve(planned(2, 4_000_000_001), limits, hold_seconds=60.0))
    await note(functions.extend(_id(1), 999_999_999, extension_id=_id(11)))
    await note(functions.extend(_id(1), 1, extension_id=_id(12)))
    await note(functions.settle(_id(1), outcome(4_900_000_003)))
    await note(functions.settle(_id(1), outcome(1)))
    await note(functions.settle(_id(404), outcome(1)))
    await note(functions.settle("no uuid", outcome(1)))
    await note(functions.reserve(planned(3, 50_000_000), limits, hold_seconds=60.0))
    second = (Limit("model:m/2", "day", 50_000_001),)
    for more, extension in ((1, 13), (1, 14)):
        asked = {"model": "m/2", "provider": "zai", "limits": second}
        await note(functions.extend(_id(3), more, extension_id=_id(extension), **asked))
    await note(functions.release(_id(3)))
    await note(functions.release(_id(3)))
    await note(functions.settle(_id(3), outcome(1)))
    metrics = CostMetrics("m", "review", Decimal("0.123456789"), 7, datetime(2026, 11, 1, tzinfo=UTC))
    external = external_json(metrics, project="p", call_id=_id(21), key="k")
    await note(functions.record(external, limits))
    await note(functions.record(external, limits))
    await note(functions.reserve(planned(4, 7_000_000), limits, hold_seconds=0.0))
    await note(functions.reserve(planned(5, 7_000_000), limits, hold_seconds=0.001))
    await asyncio.sleep(0.01)
    await note(functions.expire(max_rows=10, project="p"))
    await note(functions.expire(max_rows=10, project=None))
    early = datetime(2026, 11, 2, 12, tzinfo=UTC)
    await note(functions.adopt(planned(6, 3_000_000), limits, hold_seconds=60.0, reserved_at=early))
    await note(functions.adopt(planned(6, 3_000_000), limits, hold_seconds=60.0, reserved_at=early))
    await note(functions.forecast("p", date(2026, 11, 2)))
    await note(functions.forecast("p", None))
    await note(functions.total("p", None, None))
    await note(functions.total("p", date(2026, 11, 1), date(2026, 11, 1)))
    await note(functions.breakdown(date(2026, 1, 1), date(2036, 1, 1), group_by="model", project="p"))
    await note(functions.breakdown(date(2026, 1, 1), date(2036, 1, 1), group_by="step", project=None))
    await note(functions.breakdown(date(2026, 1, 1), date(2036, 1, 1), group_by="colour", project=None))
    await note(functions.budget_status("p", limits))


async def search_cache(functions: SearchCacheFunctions, transcript: Transcript, _: Any) -> None:
    note, results = transcript.note, [{"title": _WORDS, "score": 0.1, "date": None, "big": 2**60}]

    async def lookup(key: str) -> Any:
        return await note(functions.get(key, folded_query=f"q {key}", max_age=3600.0, lease_seconds=30.0))

    async def put(key: str, lease: str) -> Any:
        return await note(
            functions.put(
                key,
                lease,
                query=f"Q {key}",
                query_folded=f"q {key}",
                provider="zai",
                results=results,
                fresh_seconds=3600.5,
                stale_seconds=60.0,
            )
        )

    first = await lookup("a")
    await lookup("a")
    await note(functions.renew("a", first.lease, lease_seconds=30.0))
    await note(functions.renew("a", _id(1), lease_seconds=30.0))
    await put("a", _id(1))
    await put("a", first.lease)
    await lookup("a")
    await note(functions.peek("a", max_age=3600.0))
    await note(functions.peek("b", max_age=3600.0))
    second = await lookup("b")
    await note(functions.release("b", second.lease))
    await note(functions.release("b", second.lease))
    figures = {"memory_hits": 3, "db_hits": 2, "misses": 1, "spent_nano": 2**60, "saved_nano": 7}
    await note(functions.count({date(2026, 11, 21): figures}, {"a": 5, "gone": 1}, provider="zai"))
    await note(functions.stats())
    await note(functions.invalidate("query", "q a"))
    await note(functions.invalidate("all"))
    await note(functions.invalidate("colour", "x"))
    await note(functions.cleanup())


async def response_cache(functions: ResponseCacheFunctions, transcript: Transcript, _: Any) -> None:
    note, answer = transcript.note, {"text": _WORDS, "usage": [1, 2**40, 0], "finish_reason": None}

    async def put(key: str, ticket: str, user_id: str | None = "u") -> Any:
        stored = functions.put(key, project="p", user_id=user_id, answer=answer, ttl_seconds=60.5, ticket=ticket)
        return await note(stored)

    ticket = (await note(functions.get("a"))).ticket
    await put("a", ticket)
    await put("b", ticket, None)
    await note(functions.get("a"))
    await put("a", "no time")
    await note(functions.forget("p", "u"))
    await put("a", ticket)
    await note(functions.forget("p", ""))
    await note(functions.forget("p", None))
    await put("b", ticket, None)
    await note(functions.cleanup(max_rows=10))


async def search_documents(functions: SearchDocumentFunctions, transcript: Transcript, _: Any) -> None:
    note = transcript.note
    documents: list[dict[str, Any]] = [
        {"url": f"https://{host}/{n}", "host": host, "title": f"Title {n}", "content": text, "published": published}
        for n, (host, text, published) in enumerate(
            [
                ("a.gov", f"The board regulates water. {_WORDS}", "2026-11-01"),
                ("b.edu", "Water is wet, and water flows.", None),
                ("b.edu", "Nothing of interest.", "2020-01-01"),
            ]
        )
    ]
    await note(functions.put(documents))
    await note(functions.put(documents[:1]))
    await note(functions.find("water", count=5, domains=(), since=None))
    await note(functions.find("water", count=1, domains=("a.gov",), since=date(2026, 1, 1)))
    await note(functions.find("fire", count=5, domains=(), since=None))
    await note(functions.delete([documents[0]["url"], "https://unknown/"]))
    await note(functions.delete(None))


async def runs(functions: RunFunctions, transcript: Transcript, db: Any) -> None:
    note = transcript.note
    run = {
        "bill_id": "AB-1",
        "jurisdiction": "California",
        "models": {"research": "r", "generate": "g", "review": "v", "refine": "g"},
        "input": {"bill_text": _WORDS, "max_rounds": 2},
        "code_version": "1",
        "idempotency_key": "key",
        "max_attempts": 3,
    }
    claimed = await note(functions.start(run, worker="w", lease_seconds=60.0))
    lease = Lease(claimed.run.id, "w", claimed.run.epoch, 60.0)
    await note(functions.start(run, worker="other", lease_seconds=60.0))
    await note(functions.start({**run, "bill_id": "AB-2"}, worker="w", lease_seconds=60.0))
    await note(functions.renew(lease))
    await note(functions.renew(Lease(lease.run_id, "other", 1, 60.0)))
    call = PlannedCall(kind="chat", model="r", provider="p", bound_nano=1_000, step="research", run_id=lease.run_id)
    await db.ledger.reserve(planned_json(call, project="p", call_id=_id(31)), (), hold_seconds=60.0)
    outcome = Outcome(model="r", provider="p", cost_nano=700, price_source="map", status="ok")
    step = StepOutput(key="research", step="research", model="r", output={"text": _WORDS, "n": [1, None]})
    await note(functions.finish_step(lease, step, reservation_id=_id(31), outcome=outcome_json(outcome)))
    await note(functions.save_step(lease, StepOutput(key="note", step="note", model=None, output=["x"])))
    await note(functions.get(lease.run_id))
    await note(functions.get(_id(404)))
    await note(functions.request_cancel(lease.run_id))
    await note(functions.renew(lease))
    await note(functions.complete(lease, analysis={"a": _WORDS}, review={"b": [0.5]}, review_passed=True))
    await note(functions.resume(lease.run_id, worker="w2", code_version="1", lease_seconds=60.0))
    await note(functions.resume(_id(404), worker="w2", code_version="1", lease_seconds=60.0))
    await note(functions.score(lease.run_id, 0.75, _WORDS))
    await note(functions.score(lease.run_id, 7.5))
    second = await note(functions.start({**run, "idempotency_key": None}, worker="w", lease_seconds=60.0))
    await note(functions.stop(Lease(second.run.id, "w", second.run.epoch, 60.0), "failed", "it failed"))
    await note(functions.list(status="failed"))
    await note(functions.list(bill_id="AB-1", limit=1))
    await note(functions.compare([second.run.id, _id(404)]))  # not the completed one: no two take the same time
    await note(functions.compare(["no uuid"]))
    await note(functions.sweep())


async def queue(functions: QueueFunctions, transcript: Transcript, _: Any) -> None:
    note = transcript.note
    runs: list[dict[str, Any]] = [
        {
            "bill_id": f"AB-{number}",
            "jurisdiction": "California",
            "models": {"research": "r", "generate": "g", "review": "v", "refine": "g"},
            "input": {"bill_text": _WORDS, "max_rounds": 2},
            "code_version": "1",
            "idempotency_key": f"key {number}",
            "max_attempts": 2,
        }
        for number in range(3)
    ]
    await note(functions.enqueue(runs))
    enqueued = await note(functions.enqueue([*runs, {**runs[0], "bill_id": "other"}]))
    claim = {"code_version": "1", "lease_seconds": 60.0}
    await note(functions.claim("w", **{**claim, "code_version": "2"}, max_runs=1))
    batch = await note(functions.claim("w", **claim, max_runs=2))
    leases = [Lease(claimed.run.id, "w", claimed.run.epoch, 60.0) for claimed in batch.runs]
    for lease in (leases[0], Lease(leases[1].run_id, "other", 1, 60.0)):
        await note(functions.renew([lease]))
    await note(functions.status())
    await note(functions.release(leases[0], wait_seconds=0.0, reason=_WORDS))
    await note(functions.release(leases[0], wait_seconds=0.0, reason="again"))
    await note(functions.take(leases[0].run_id, worker="w", **claim))
    await note(functions.take(leases[0].run_id, worker="other", **claim))
    await note(functions.retry(leases[1], wait_seconds=3600.0, reason=_WORDS))
    await note(functions.status())
    await note(functions.take(enqueued[2].run_id, worker="w", **claim))
    await note(functions.retry(Lease(enqueued[2].run_id, "w", 1, 60.0), wait_seconds=0.0, reason="it failed"))
    last = await note(functions.claim("w", **claim, max_runs=5))
    await note(functions.retry(Lease(last.runs[0].run.id, "w", 2, 60.0), wait_seconds=0.0, reason="it failed"))
    await note(functions.take(enqueued[2].run_id, worker="w", **claim))
    await note(functions.take(_id(404), worker="w", **claim))


async def conversations(functions: ConversationFunctions, transcript: Transcript, _: Any) -> None:
    note = transcript.note
    ids = [await note(functions.save("alice", "user", f"{_WORDS} {n}", "page" if n else None)) for n in range(4)]
    await note(functions.save("bob", "assistant", "hello alice", None))
    await note(functions.save("alice", "wizard", "not a role", None))
    await note(functions.context("alice", None, 2))
    await note(functions.context("alice", "page", 10))
    await note(functions.context("nobody", None, 10))
    await note(functions.history("alice", 10, ids[2]))
    await note(functions.recall("alice", "quotes", 2))
    await note(functions.recall("bob", "quotes", 2))
    backlog = functions.backlog("alice", keep=1, max_messages=10, max_characters=1000, clip=5)
    await note(backlog)
    summary = {"through": ids[1], "message_count": 2, "summary": _WORDS}
    await note(functions.save_summary("alice", previous=None, **summary))
    await note(functions.save_summary("alice", previous=None, **summary))
    await note(functions.context("alice", None, 10))
    await note(functions.forget_message("alice", ids[3]))
    await note(functions.forget_message("bob", ids[2]))
    await note(functions.forget("alice"))
    await note(functions.context("alice", None, 10))
    await note(functions.cleanup(30))


async def rollout(functions: RolloutFunctions, transcript: Transcript, _: Any) -> None:
    note, window = transcript.note, {"newest": 100, "max_age_seconds": 3600.0, "slow_ratio": 1.5}
    await note(functions.get("flag"))
    await note(functions.set_percentage("flag", 25))
    await note(functions.set_percentage("flag", 101))
    await note(functions.set_percentage("flag", None))
    await note(functions.set_enabled("flag", enabled=False))
    await note(functions.set_enabled("flag", enabled=True))
    outcomes = [
        ArmOutcome(epoch=1, arm="new", ok=True, seconds=0.5, cost_nano=2**60),
        ArmOutcome(epoch=1, arm="new", ok=False, seconds=2.0),
        ArmOutcome(epoch=1, arm="old", ok=True, seconds=0.25, cost_nano=10),
        ArmOutcome(epoch=1, arm="old", ok=True, seconds=0.75, shadow=True, compared=True, difference="ab12"),
    ]
    await note(functions.record("flag", outcomes, **window))
    await note(functions.report("flag", **window))
    await note(functions.report("unknown", **window))
    await note(functions.latch("flag", 1, _WORDS))
    await note(functions.latch("flag", 1, "again"))
    await note(functions.reset("flag", 5))
    await note(functions.get("flag"))


#: Namespace → its story.
SCENARIOS: dict[str, Callable[[Any, Transcript, Any], Awaitable[None]]] = {
    "ledger": ledger,
    "response_cache": response_cache,
    "search_cache": search_cache,
    "search_documents": search_documents,
    "runs": runs,
    "queue": queue,
    "conversations": conversations,
    "rollout": rollout,
}
