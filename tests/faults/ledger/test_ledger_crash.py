"""Processes that are killed in the middle of paid calls: nothing is lost, nothing stays locked, no budget is passed."""

import asyncio
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from llm_common.cost_tracker import CostTracker
from llm_common.db.database import Database
from llm_common.exceptions import BudgetExceededError
from llm_common.models import Outcome, PlannedCall
from tests.support.programs import running

# Spends in a loop until it is killed or out of money. A line in the journal is what a provider would have seen: a
# request that was sent after its reservation. Calls take a moment, and some fail before they are sent.
_SPENDER = """
import asyncio, os, random, sys
from llm_common.cost_tracker import CostTracker
from llm_common.exceptions import BudgetExceededError
from llm_common.models import Outcome, PlannedCall

dsn, journal, seed = sys.argv[1:]
chance = random.Random(seed)
sent = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
call = PlannedCall(kind="chat", model="m", provider="x", bound_nano=1000, user_id="ann", hold_seconds=HOLD)

async def spend(tracker):
    while True:
        try:
            reservation = await tracker.reserve(call)
        except BudgetExceededError:
            return
        if chance.random() < 0.1:
            await tracker.release(reservation)
            continue
        os.write(sent, reservation.id.encode() + b"\\n")
        await asyncio.sleep(chance.random() * 0.01)
        cost = chance.randint(1, 1000)
        outcome = Outcome(model="m", provider="x", cost_nano=cost, price_source="map", status="ok")
        await tracker.settle(reservation, outcome)

async def main():
    async with CostTracker(dsn, "LIMIT", project="p") as tracker:
        print("ready", flush=True)
        await asyncio.gather(*(spend(tracker) for _ in range(6)))

asyncio.run(main())
"""


@contextmanager
def _spender(dsn: str, journal: Path, *, seed: int, limit_usd: str, hold: float) -> Iterator[subprocess.Popen[bytes]]:
    program = _SPENDER.replace("LIMIT", limit_usd).replace("HOLD", str(hold))
    with running("-c", program, dsn, journal, seed) as spender:
        assert spender.line() == "ready"
        yield spender.process


def _calls_in(journal: Path) -> int:
    return len(journal.read_text().splitlines()) if journal.exists() else 0


def _rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()  # pyright: ignore[reportArgumentType, reportCallIssue] (constants)


async def test_a_killed_process_loses_no_call(dsn: str, db: Database, tmp_path: Path):
    """Killed again and again at random moments: each request that was sent has its row, and the books agree."""
    journal, chance = tmp_path / "sent", random.Random(7)
    for seed in range(6):
        with _spender(dsn, journal, seed=seed, limit_usd="1", hold=1) as process:
            # However busy the machine is: somewhere between its tenth and some later call.
            while _calls_in(journal) < 10 * (seed + 1):
                await asyncio.sleep(0.005)
            await asyncio.sleep(chance.random() * 0.1)
            process.send_signal(signal.SIGKILL)
    tracker = CostTracker(db, project="p")
    _wait_for_expiry(dsn)
    while await tracker.expire():
        pass
    sent = set(journal.read_text().split())
    recorded = {str(call_id): status for call_id, status in _rows(dsn, "SELECT id, status FROM cost_tracking")}
    assert len(sent) > 50
    assert sent <= recorded.keys()
    assert "expired" in recorded.values()
    assert {recorded[call_id] for call_id in recorded.keys() - sent} <= {"expired"}
    assert _rows(dsn, "SELECT DISTINCT reserved_nano FROM budget_windows") == [(0,)]
    assert _rows(dsn, "SELECT * FROM check_cost_ledger('p')") == []


async def test_killed_processes_do_not_pass_a_budget_nor_lock_it(dsn: str, db: Database, tmp_path: Path):
    """Three processes at once on one small budget, one killed: never over the limit, and what is left can be spent."""
    limit_nano, journal = 200_000, tmp_path / "sent"
    spenders = [_spender(dsn, journal, seed=seed, limit_usd="0.0002", hold=2) for seed in range(3)]
    with spenders[0] as first, spenders[1] as second, spenders[2] as third:
        await asyncio.sleep(0.1)
        first.send_signal(signal.SIGKILL)
        while second.poll() is None or third.poll() is None:
            [(used,)] = _rows(dsn, "SELECT reserved_nano + spent_nano FROM budget_windows WHERE \"window\" = 'day'")
            assert isinstance(used, int)
            assert used <= limit_nano
    tracker = CostTracker(db, "0.0002", project="p")
    _wait_for_expiry(dsn)
    [day, _] = await tracker.budget_status()
    assert day.reserved_usd == 0
    assert day.over_usd == 0
    # Whoever stopped had less room than the bound of one call, save what settlements gave back since.
    left = limit_nano - int(day.spent_usd * 10**9)
    assert left >= 0
    await _spend_all(tracker, left)
    assert _rows(dsn, "SELECT * FROM check_cost_ledger('p')") == []


async def _spend_all(tracker: CostTracker, left_nano: int) -> None:
    call = PlannedCall(kind="chat", model="m", provider="x", bound_nano=left_nano)
    outcome = Outcome(model="m", provider="x", cost_nano=left_nano, price_source="map", status="ok")
    await tracker.settle(await tracker.reserve(call), outcome)
    with pytest.raises(BudgetExceededError) as refused:
        await tracker.reserve(PlannedCall(kind="chat", model="m", provider="x", bound_nano=1))
    assert refused.value.spent_usd == refused.value.limit_usd


def _wait_for_expiry(dsn: str) -> None:
    [(seconds,)] = _rows(
        dsn,
        "SELECT coalesce(extract(epoch FROM max(expires_at) - clock_timestamp()), 0)::float8 FROM cost_reservations",
    )
    assert isinstance(seconds, float)
    time.sleep(max(0.0, seconds) + 0.01)
