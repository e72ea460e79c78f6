"""200 processes are killed in the middle of paid calls: what the provider saw is in the ledger, once."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest

from llm_common.cost_tracker import CostTracker
from llm_common.db.database import Database
from llm_common.testing import ChatRequest, FakeProvider, Reply
from tests.support.programs import running

CALLERS = Path(__file__).with_name("doomed_callers.py")
KILLS, AT_ONCE = 200, 4


def late(request: ChatRequest) -> Reply:
    """An answer that leaves time to die before it, and in the middle of it."""
    return Reply(
        text="Yes, it is.", pieces=("Yes, ", "it ", "is."), delay=random.random() * 0.02, seconds_per_chunk=0.003
    )


@pytest.fixture
def provider() -> Generator[FakeProvider]:
    with FakeProvider.serve_in_thread(answer=late) as provider:
        yield provider


async def test_every_request_that_was_seen_has_its_row(provider: FakeProvider, dsn: str, db: Database):
    """Killed while it reserves, sends, waits, reads or settles: no request without a row, none with two."""
    with running(CALLERS, dsn, KILLS, AT_ONCE, 11, env={**os.environ, **provider.environment()}) as callers:
        await asyncio.to_thread(callers.finish)
    await provider.settled()

    with psycopg.connect(dsn, autocommit=True) as connection:
        [(held,)] = connection.execute("SELECT count(*) FROM cost_reservations").fetchall()
        assert held > KILLS / 2
        # Time passes: a call's hold is its timeout and two minutes.
        connection.execute("UPDATE cost_reservations SET expires_at = clock_timestamp() - INTERVAL '1 s'")
        tracker = CostTracker(db, project="p")
        while await tracker.expire():
            pass
        rows = connection.execute("SELECT tags ->> 'call', status FROM cost_tracking").fetchall()
        assert connection.execute("SELECT count(*) FROM cost_reservations").fetchall() == [(0,)]
        assert connection.execute("SELECT DISTINCT reserved_nano FROM budget_windows").fetchall() == [(0,)]
        assert connection.execute("SELECT * FROM check_cost_ledger('p')").fetchall() == []

    seen = {request.body["messages"][-1]["content"] for request in provider.requests}
    recorded = Counter(call_id for call_id, _ in rows)
    assert len(seen) >= KILLS / 2  # every other caller had an answer before it died
    assert seen - recorded.keys() == set()
    assert set(recorded.values()) == {1}
    statuses = dict(rows)
    # The provider saw some that died, and some of the reserved were never sent; those are charged too.
    assert {statuses[call_id] for call_id in seen} == {"ok", "expired"}
    assert {statuses[call_id] for call_id in recorded.keys() - seen} == {"expired"}
