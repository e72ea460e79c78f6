"""Eight processes with 64 calls at a time on one budget that only a fraction of them fits: it is never passed.

What a sampler sees is one snapshot, so the rows and the calls in flight of one moment are summed up, not two moments'.
The naive check, driven by the same processes, shows that this test can fail.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from llm_common.cost_tracker import CostTracker
from llm_common.db.database import Database
from tests.contract.rpc_server import RpcServer
from tests.support.programs import running

SPENDERS = Path(__file__).with_name("spenders.py")
PROCESSES, TASKS = 8, 64
#: Room for 160 of 512 calls at a time, and for a part of what all calls cost together.
LIMIT_NANO = 160_000
#: What the rows and the calls in flight come to, and what the budget's counters say of them.
LEDGER_SUM = b"""
SELECT (SELECT coalesce(sum(public.cost_nano(cost_usd)), 0) FROM public.cost_tracking)
           + (SELECT coalesce(sum(bound_nano), 0) FROM public.cost_reservations),
       coalesce((SELECT spent_nano + reserved_nano FROM public.budget_windows
                  WHERE scope = 'project' AND "window" = 'total'), 0)
"""
NAIVE_SUM = b"SELECT coalesce(sum(cost_nano), 0) FROM naive_costs"


class Sampler:
    """Reads all the time, on a connection and a thread of its own."""

    def __init__(self, dsn: str, query: bytes) -> None:
        self._dsn, self._query = dsn, query
        self._enough = threading.Event()
        self.samples: list[tuple[Any, ...]] = []

    @property
    def highest(self) -> int:
        return max(max(sample) for sample in self.samples)

    @contextmanager
    def running(self) -> Generator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._enough.set()
            thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._enough.wait(0.002):
                self.samples += connection.execute(self._query).fetchall()


def spend(ledger: str, where: str, calls: int, sampler: Sampler) -> Counter[str]:
    """Let all processes spend, and add up what they tell."""
    numbers = (PROCESSES, TASKS, calls, LIMIT_NANO)
    with running(SPENDERS, ledger, where, *numbers) as spenders:
        assert spenders.line() == "ready"
        with sampler.running():
            spenders.send("go")
            told = spenders.finish()
    assert len(told.splitlines()) == PROCESSES
    total = Counter[str]()
    for line in told.splitlines():
        total.update(json.loads(line))
    return total


@pytest.fixture(params=["psycopg", "supabase"])
def where(request: pytest.FixtureRequest, dsn: str) -> Generator[tuple[str, str]]:
    """The transport, and where it leads."""
    if request.param == "psycopg":
        yield "psycopg", dsn
        return
    with RpcServer.in_thread(dsn, "the-anon-key", "the-service-key") as server:
        yield "supabase", f"{server.url} {server.service_key}"


async def test_no_budget_is_passed_at_any_moment(where: tuple[str, str], dsn: str, db: Database):
    """With failures, cancellations and owners that die: never above the limit, nothing left held, every cent told."""
    sampler = Sampler(dsn, LEDGER_SUM)
    told = spend(*where, 2 if where[0] == "psycopg" else 1, sampler)
    assert {"ok", "failed", "unsent", "interrupted", "cancelled", "dies", "refused"} <= told.keys()
    assert len(sampler.samples) > 20
    assert LIMIT_NANO / 2 < sampler.highest <= LIMIT_NANO
    assert [rows for rows, counted in sampler.samples if rows != counted] == []

    await _let_the_dead_expire(dsn, CostTracker(db, project="p"))
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT * FROM cost_reservations").fetchall() == []
        assert connection.execute("SELECT DISTINCT reserved_nano FROM budget_windows").fetchall() == [(0,)]
        assert connection.execute("SELECT * FROM check_cost_ledger('p')").fetchall() == []
        assert connection.execute(LEDGER_SUM).fetchone() == (told["spent_nano"],) * 2
        [(expired,)] = connection.execute("SELECT count(*) FROM cost_tracking WHERE status = 'expired'").fetchall()
    assert expired == told["dies"]


def test_the_usual_check_overspends(dsn: str):
    """The control: summing up, comparing and writing afterwards lets the same calls pass the same limit."""
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE naive_costs (cost_nano bigint NOT NULL)")
    sampler = Sampler(dsn, NAIVE_SUM)
    spend("naive", dsn, 1, sampler)
    assert sampler.highest > LIMIT_NANO


async def _let_the_dead_expire(dsn: str, tracker: CostTracker) -> None:
    query = "SELECT coalesce(extract(epoch FROM max(expires_at) - clock_timestamp()), 0)::float8 FROM cost_reservations"
    with psycopg.connect(dsn) as connection:
        [(seconds,)] = connection.execute(query).fetchall()
    # Whoever lives has settled or released, so only holds of a second are left.
    assert seconds < 2
    await asyncio.sleep(max(0.0, seconds) + 0.01)
    while await tracker.expire():
        pass
