"""Calls that go on while the ledger's database is away: journalled, limited, and booked exactly once afterwards."""

import asyncio
import json
import signal
import stat
import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from llm_common.cost_tracker import CostMetrics, CostTracker
from llm_common.db.database import Database
from llm_common.exceptions import BudgetExceededError, ConfigurationError, DatabaseError, DatabaseUnavailableError
from llm_common.models import Budget, Outcome, PlannedCall


class Switch:
    """A path to the server's socket that can be taken away, with the connections over it."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self._link, self._folder = folder / "socket", Path(str(conninfo_to_dict(dsn)["host"]))
        self._direct = dsn
        self.dsn = make_conninfo(dsn, host=str(self._link))

    def on(self) -> None:
        self._link.symlink_to(self._folder)

    def off(self) -> None:
        self._link.unlink()
        self.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                 "AND pid <> pg_backend_pid()")  # fmt: skip

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._direct) as connection:
            return connection.execute(query).fetchall()  # pyright: ignore[reportArgumentType, reportCallIssue] (constants)

    def booked(self) -> list[tuple[str, int]]:
        return self.ask("SELECT status, cost_nano(cost_usd) FROM cost_tracking ORDER BY id")


@pytest.fixture
def switch(tmp_path: Path, dsn: str) -> Generator[Switch]:
    """Off at first. At the end the counters must equal the rows."""
    switch = Switch(tmp_path, dsn)
    yield switch
    assert switch.ask("SELECT * FROM check_cost_ledger('p')") == []


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool.jsonl"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_common.ledger.spooled._WAITS", (0.001,))
    monkeypatch.setattr("llm_common.ledger.spooled._AWAY_SECONDS", 0.0)


def tracker_at(source: Database | str, spool: Path, allowance: str = "0.000001", **other: Any) -> CostTracker:
    return CostTracker(source, project="p", on_outage="spool", spool_path=spool, spool_allowance_usd=allowance, **other)


def content(path: Path) -> bytes:
    return path.read_bytes()


def exists(path: Path) -> bool:
    return path.exists()


def put(path: Path, text: bytes) -> None:
    path.write_bytes(text)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def call(bound: int = 100, **other: Any) -> PlannedCall:
    return PlannedCall(kind="chat", model="m", provider="x", bound_nano=bound, **other)


def cost(nano: int, **other: Any) -> Outcome:
    facts: dict[str, Any] = {"model": "m", "provider": "x", "price_source": "map", "status": "ok", **other}
    return Outcome(cost_nano=nano, **facts)


async def test_calls_go_on_and_are_booked_when_the_database_is_back(switch: Switch, spool: Path):
    """Reserve, settle, release and a logged cost without a database; the next call brings them in, by itself."""
    async with tracker_at(switch.dsn, spool) as tracker:
        await tracker.settle(await tracker.reserve(call(user_id="ann", step="s")), cost(70, answer="secret answer"))
        await tracker.release(await tracker.reserve(call()))
        under_way = await tracker.reserve(call())
        await tracker.log_cost(CostMetrics("other", "s", Decimal("0.000000005")))
        assert tracker.spent_today_nano == 75
        assert "secret answer" not in content(spool).decode()
        assert mode(spool) == 0o600
        switch.on()
        await tracker.release(await tracker.reserve(call(1)))
        assert content(spool) == b""
        assert switch.ask("SELECT bound_nano FROM cost_reservations") == [(100,)]
        await tracker.settle(under_way, cost(30))
        assert tracker.spent_today_nano == 105
    assert sorted(switch.booked()) == [("ok", 5), ("ok", 30), ("ok", 70)]
    assert switch.ask("SELECT user_id, step FROM cost_tracking WHERE user_id IS NOT NULL") == [("ann", "s")]


async def test_what_was_reserved_before_the_outage_is_settled_released_and_extended_in_it(switch: Switch, spool: Path):
    """The database knows the reservations; only what an extension adds counts against the allowance."""
    switch.on()
    async with tracker_at(switch.dsn, spool, "0.00000005") as tracker:
        paid, freed, grown = [await tracker.reserve(call()) for _ in range(3)]
        switch.off()
        await tracker.settle(paid, cost(60))
        await tracker.release(freed)
        with pytest.raises(BudgetExceededError):
            await tracker.extend(grown, 51)
        grown = await tracker.extend(grown, 50, model="n", provider="y")
        switch.on()
        assert await tracker.replay() == 3
        assert switch.ask("SELECT model, bound_nano FROM cost_reservations") == [("n", 150)]
        await tracker.settle(grown, cost(140, model="n", provider="y"))
    assert switch.booked() == [("ok", 60), ("ok", 140)]


async def test_the_allowance_holds_for_all_who_share_the_file(switch: Switch, spool: Path):
    """40 calls at once through four trackers, for 10 of which there is allowance: never more, settled or not."""
    trackers = [tracker_at(switch.dsn, spool) for _ in range(4)]
    answers = await asyncio.gather(*(trackers[n % 4].reserve(call()) for n in range(40)), return_exceptions=True)
    held = [answer for answer in answers if not isinstance(answer, BaseException)]
    refused = [answer for answer in answers if isinstance(answer, BudgetExceededError)]
    assert (len(held), len(refused)) == (10, 30)
    assert "spool allowance" in str(refused[0])
    await trackers[0].settle(held[0], cost(40))
    await trackers[1].reserve(call(60))
    with pytest.raises(BudgetExceededError) as error:
        await trackers[2].reserve(call(1))
    assert (error.value.spent_usd, error.value.reserved_usd) == (Decimal("0.00000004"), Decimal("0.00000096"))
    switch.on()
    for tracker in trackers:
        await tracker.aclose()
    async with Database.connect(switch.dsn) as db:
        await tracker_at(db, spool).replay()
        await tracker_at(db, spool).expire()
    assert switch.ask("SELECT count(*), sum(bound_nano)::bigint FROM cost_reservations") == [(10, 960)]


async def test_a_lost_budget_shows_after_the_replay(switch: Switch, spool: Path):
    """Spooled costs count for the budgets as soon as they are in: the next call is refused."""
    async with tracker_at(switch.dsn, spool, budgets=[Budget(Decimal("0.0000001"))]) as tracker:
        await tracker.settle(await tracker.reserve(call()), cost(100))
        switch.on()
        with pytest.raises(BudgetExceededError, match="project/day"):
            await tracker.reserve(call(1))


async def test_a_call_counts_on_the_day_it_was_made(switch: Switch, spool: Path):
    """Spooled two days ago and replayed today: its row, and that of a logged cost, are of two days ago."""
    async with tracker_at(switch.dsn, spool) as tracker:
        await tracker.settle(await tracker.reserve(call()), cost(9))
        await tracker.record(call(0), cost(0))
        then = datetime.now(UTC) - timedelta(days=2)
        known = [json.loads(line) for line in content(spool).decode().splitlines()]
        old = f"{int(then.timestamp() * 1000):012x}"
        for line in known[1:]:
            line["id"] = f"{old[:8]}-{old[8:]}{line['id'][13:]}"
            for part in ("call", "row"):
                if part in line:
                    line[part]["id"] = line["id"]
            if "row" in line:
                line["row"]["timestamp"] = then.isoformat()
        put(spool, "".join(json.dumps(line) + "\n" for line in known).encode())
        switch.on()
        await tracker.replay()
    assert switch.ask("SELECT DISTINCT day FROM cost_tracking") == [(then.date(),)]


# --- crashes

_CHILD = """
import asyncio, os, signal, sys
import llm_common.ledger.spooled as spooled
from llm_common.cost_tracker import CostTracker
from llm_common.models import Outcome, PlannedCall

spooled._WAITS, spooled._AWAY_SECONDS = (0.001,), 0.0
dsn, spool, point = sys.argv[1:]
call = PlannedCall(kind="chat", model="m", provider="x", bound_nano=100, hold_seconds=HOLD)
outcome = Outcome(model="m", provider="x", cost_nano=70, price_source="map", status="ok")

def die():
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    tracker = CostTracker(dsn, project="p", on_outage="spool", spool_path=spool, spool_allowance_usd=1)
    if point.startswith("replay"):
        functions, left = tracker._ledger, [int(point.removeprefix("replay"))]
        call_sql = functions._call
        async def counting(name, arguments):
            answer = await call_sql(name, arguments)
            left[0] -= 1
            if left[0] == 0:
                die()
            return answer
        functions._call = counting
        await tracker.replay()
        await tracker.aclose()
        return
    await tracker.settle(await tracker.reserve(call), outcome)
    reservation = await tracker.reserve(call)
    if point == "reserved":
        die()
    await tracker.settle(reservation, outcome)
    die()

asyncio.run(main())
"""


def run_child(dsn: str, spool: Path, point: str, hold: float = 900.0) -> int:
    command = [sys.executable, "-c", _CHILD.replace("HOLD", str(hold)), dsn, str(spool), point]
    return subprocess.run(command, check=False, timeout=60).returncode


async def replay(switch: Switch, spool: Path) -> CostTracker:
    async with Database.connect(switch.dsn) as db:
        tracker = tracker_at(db, spool)
        await tracker.replay()
        await tracker.expire()
    return tracker


async def test_a_process_that_dies_between_reserve_and_settlement_is_charged_its_bound(switch: Switch, spool: Path):
    """The reserve was on disk before the call could be sent; what was settled before is booked at the truth."""
    assert run_child(switch.dsn, spool, "reserved", hold=0.001) == -signal.SIGKILL
    switch.on()
    await replay(switch, spool)
    assert switch.booked() == [("ok", 70), ("expired", 100)]


async def test_a_process_that_dies_after_the_settlement_lost_nothing(switch: Switch, spool: Path):
    """Both settlements were on disk."""
    assert run_child(switch.dsn, spool, "settled") == -signal.SIGKILL
    switch.on()
    await replay(switch, spool)
    assert switch.booked() == [("ok", 70), ("ok", 70)]


@pytest.mark.parametrize("torn", [1, 20, 200])
async def test_a_torn_last_line_is_as_if_it_was_never_written(switch: Switch, spool: Path, torn: int):
    """The machine died while the second settlement was written: that call is charged its bound, the first is whole."""
    run_child(switch.dsn, spool, "settled", hold=0.001)
    put(spool, content(spool)[:-torn])
    async with tracker_at(switch.dsn, spool, "1") as tracker:
        await tracker.reserve(call(5, hold_seconds=0.001))
    switch.on()
    await replay(switch, spool)
    assert sorted(switch.booked()) == [("expired", 5), ("expired", 100), ("ok", 70)]


@pytest.mark.parametrize("step", range(1, 7))
async def test_a_replay_that_is_killed_begins_anew(switch: Switch, spool: Path, step: int):
    """After each of its changes of the database: the next replay finishes it, and each call is booked once."""
    run_child(switch.dsn, spool, "settled")
    switch.on()
    assert run_child(switch.dsn, spool, f"replay{step}") == -signal.SIGKILL
    assert content(spool)
    await replay(switch, spool)
    assert switch.booked() == [("ok", 70), ("ok", 70)]
    assert content(spool) == b""


async def test_a_file_that_is_replayed_twice_is_booked_once(switch: Switch, spool: Path):
    """Also with a released call in it, and one that expired meanwhile."""
    async with tracker_at(switch.dsn, spool) as tracker:
        await tracker.release(await tracker.reserve(call()))
        await tracker.reserve(call(7, hold_seconds=0.001))
        await tracker.settle(await tracker.reserve(call()), cost(70))
        await tracker.log_cost(CostMetrics("m", "s", Decimal("0.000000003")))
    kept = content(spool)
    switch.on()
    for _ in range(3):
        put(spool, kept)
        await replay(switch, spool)
    assert sorted(switch.booked()) == [("expired", 7), ("ok", 3), ("ok", 70)]
    assert switch.ask("SELECT * FROM cost_reservations") == []


async def test_processes_that_replay_at_once_book_once(switch: Switch, spool: Path):
    """Four processes find the same file when the database is back, while others add to it."""
    async with tracker_at(switch.dsn, spool, "1") as tracker:
        for _ in range(30):
            await tracker.settle(await tracker.reserve(call()), cost(70))
    switch.on()
    command = [sys.executable, "-c", _CHILD.replace("HOLD", "900"), switch.dsn, str(spool), "replay-1"]
    children = [await asyncio.create_subprocess_exec(*command) for _ in range(4)]
    assert [await child.wait() for child in children] == [0, 0, 0, 0]
    assert switch.booked() == [("ok", 70)] * 30
    assert content(spool) == b""


async def test_a_cancelled_reserve_leaves_nothing(switch: Switch, spool: Path):
    """Whenever the task is cancelled while it spools, the call is not charged: it was not sent."""
    async with tracker_at(switch.dsn, spool) as tracker:
        for pause in range(12):
            task = asyncio.create_task(tracker.reserve(call()))
            await asyncio.sleep(pause / 2000)
            task.cancel()
            [answer] = await asyncio.gather(task, return_exceptions=True)
            if not isinstance(answer, BaseException):
                await tracker.release(answer)
    switch.on()
    await replay(switch, spool)
    assert switch.booked() == []
    assert switch.ask("SELECT * FROM cost_reservations") == []


async def test_closed_is_the_default_and_the_spool_wants_its_two_settings(switch: Switch, spool: Path):
    """Nothing is spent unless the host said how much may be."""
    with pytest.raises(DatabaseUnavailableError):
        await CostTracker(switch.dsn, project="p").reserve(call())
    for settings in (
        {"on_outage": "spool"},
        {"on_outage": "spool", "spool_path": spool},
        {"spool_path": spool},
        {"on_outage": "open"},
    ):
        with pytest.raises(ConfigurationError):
            CostTracker(switch.dsn, **settings)
    assert not exists(spool)


async def test_a_spool_that_cannot_be_written_refuses_the_call(switch: Switch, tmp_path: Path):
    """Without the line on disk nothing is sent; the error names the file."""
    with pytest.raises(DatabaseError, match=r"nowhere/spool.*cannot be used"):
        await tracker_at(switch.dsn, tmp_path / "nowhere" / "spool").reserve(call())


async def test_a_line_that_the_database_refuses_is_kept_apart(switch: Switch, spool: Path):
    """It does not hold up the others, and it is not lost."""
    async with tracker_at(switch.dsn, spool) as tracker:
        await tracker.settle(await tracker.reserve(call()), cost(70))
        bad = replace(await tracker.reserve(call()), call=call(hold_seconds=10**9))
        await tracker.settle(bad, cost(1))
        switch.on()
        await tracker.replay()
    assert ("ok", 70) in switch.booked()
    refused = json.loads(content(spool.with_name("spool.jsonl.refused")))
    assert (refused["operation"], refused["id"]) == ("settle", bad.id)
