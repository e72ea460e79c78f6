"""What must hold for runs whose workers are killed, and a provider that notes what it was asked for, and when."""

import random
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg

from llm_common import CostTracker
from llm_common.pipeline import Item
from llm_common.testing import ChatRequest, FakeProvider, Fault, Reply
from llm_common.testing.analyst import answer_chat

MODEL = "openrouter/z-ai/glm-5.3"
MODELS = {"research": MODEL, "generate": MODEL, "review": MODEL}
STEPS = ("research", "generate", "review:1")
TEXT = "SECTION 1. The board shall pay ${},000 to the county."


def items(count: int) -> list[Item]:
    return [Item(f"AB-{number}", TEXT.format(number + 1), "California") for number in range(count)]


class Provider:
    """Answers each call after a moment, so that kills meet calls under way; notes who asked, when, for which step.

    `left_waiting`: the first call for each of these is not answered, so that only the end of its worker ends it.
    """

    def __init__(self) -> None:
        self.fake: FakeProvider
        self.left_waiting: set[tuple[str, str]] = set()
        self.asked: list[tuple[tuple[str, str], datetime]] = []
        self._chance = random.Random(11)

    def chat(self, request: ChatRequest) -> Reply | Fault:
        found = re.search(r'<source id="BILL" title="[^"]*(AB-\d+)', request.last_user_text)
        assert found is not None
        asked = set((request.schema or {}).get("properties", {}))
        step = "research" if "queries" in asked else "review:1" if "passed" in asked else "generate"
        call = (found[1], step)
        self.asked.append((call, datetime.now(UTC)))
        if call in self.left_waiting:
            self.left_waiting.remove(call)
            return Fault.stall()
        return Reply(text=answer_chat(request).text, delay=self._chance.uniform(0.02, 0.2))


async def rows(dsn: str, query: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return await (await connection.execute(query)).fetchall()  # pyright: ignore[reportArgumentType]


async def every_run_completed_once(dsn: str, runs: int) -> None:
    assert await rows(dsn, "SELECT status, count(*) FROM pipeline_runs GROUP BY 1") == [("completed", runs)]
    assert await rows(dsn, "SELECT count(DISTINCT bill_id) FROM pipeline_runs WHERE analysis_json IS NOT NULL") == [
        (runs,)
    ]


async def no_finished_step_was_paid_again(dsn: str, provider: Provider, runs: int) -> None:
    """No request arrived for a step that was already stored."""
    stored = {
        (bill, key): at
        for bill, key, at in await rows(
            dsn,
            "SELECT r.bill_id, s.key, s.timestamp FROM pipeline_steps s JOIN pipeline_runs r ON r.id = s.run_id "
            "WHERE s.status = 'completed' AND s.model IS NOT NULL",
        )
    }
    assert len(stored) == 3 * runs
    assert {call for call, _ in provider.asked} == set(stored)
    assert [call for call, at in provider.asked if at > stored[call]] == []


async def expire_what_died(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("UPDATE cost_reservations SET expires_at = clock_timestamp() - interval '1 second'")
    async with CostTracker(dsn) as tracker:
        while await tracker.expire():
            pass


async def spent(dsn: str) -> Decimal:
    return (await rows(dsn, "SELECT sum(cost_usd) FROM cost_tracking"))[0][0]
