"""The ledger while its database goes away, and while answers get lost on the way."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from llm_common.cost_tracker import CostMetrics, CostTracker
from llm_common.db.database import Database
from llm_common.exceptions import DatabaseError, DatabaseUnavailableError
from llm_common.models import Outcome, PlannedCall


def call(bound: int = 10) -> PlannedCall:
    return PlannedCall(kind="chat", model="m", provider="x", bound_nano=bound)


def cost(nano: int) -> Outcome:
    return Outcome(model="m", provider="x", cost_nano=nano, price_source="map", status="ok")


def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()  # pyright: ignore[reportArgumentType, reportCallIssue] (constants)


class Line:
    """A socket in front of the server's, that can be cut."""

    def __init__(self, folder: Path, dsn: str) -> None:
        parts = conninfo_to_dict(dsn)
        name = f".s.PGSQL.{parts.get('port', 5432)}"
        self._server, self._here = Path(str(parts["host"])) / name, folder / name
        self.dsn = make_conninfo(dsn, host=str(folder))
        self.up = True
        self.dropped = 0
        self.was_tried = asyncio.Event()
        #: How many of the next answers get lost, with the connection.
        self.lose_answers = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator["Line"]:
        server = await asyncio.start_unix_server(self._serve, self._here)
        try:
            yield self
        finally:
            server.close()
            for writer in list(self._writers):
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        if not self.up:
            self.dropped += 1
            self.was_tried.set()
            writer.close()
            return
        upstream, out = await asyncio.open_unix_connection(self._server)
        self._writers.add(out)
        await asyncio.gather(self._pump(reader, out, answers=False), self._pump(upstream, writer, answers=True))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                if answers and self.lose_answers and b"spent_today_nano" in data:
                    self.lose_answers -= 1
                    self.dropped += 1
                    break
                sink.write(data)
                await sink.drain()
        sink.close()

    def cut(self) -> None:
        self.up = False
        for writer in self._writers:
            writer.close()


@pytest.fixture
async def line(dsn: str, tmp_path: Path) -> AsyncGenerator[Line]:
    async with Line(tmp_path, dsn).open() as line:
        yield line


async def test_a_settlement_outlasts_a_short_outage(line: Line, dsn: str):
    """The database goes away after the call was paid and comes back: the truth is written, once."""
    async with Database.connect(line.dsn) as db:
        tracker = CostTracker(db, project="p")
        reservation = await tracker.reserve(call())
        line.cut()
        settling = asyncio.create_task(tracker.settle(reservation, cost(7)))
        await line.was_tried.wait()
        line.up = True
        await settling
    assert rows(dsn, "SELECT status, cost_nano(cost_usd) FROM cost_tracking") == [("ok", 7)]


async def test_lost_answers_do_no_harm(line: Line, dsn: str):
    """Reserve, extension, settlement and record whose answer was lost are repeated, and count once."""
    async with Database.connect(line.dsn) as db:
        tracker = CostTracker(db, project="p")
        line.lose_answers = 1
        reservation = await tracker.reserve(call(10))
        line.lose_answers = 1
        reservation = await tracker.extend(reservation, 5)
        assert rows(dsn, "SELECT DISTINCT reserved_nano FROM budget_windows") == [(15,)]
        line.lose_answers = 1
        await tracker.settle(reservation, cost(7))
        line.lose_answers = 1
        await tracker.log_cost(CostMetrics("m", "s", Decimal("0.000000002")))
        assert line.dropped == 4
        assert await tracker.get_daily_cost() == Decimal("0.000000009")
    assert rows(dsn, "SELECT * FROM check_cost_ledger('p')") == []


async def test_without_a_database_nothing_is_spent(line: Line):
    """A reserve that cannot be written is an error, so that nothing is sent unrecorded."""
    line.cut()
    with pytest.raises(DatabaseUnavailableError):
        await CostTracker(line.dsn, project="p").reserve(call())
    assert line.dropped > 1


async def test_a_settlement_that_never_arrives_names_its_reservation(line: Line, monkeypatch: pytest.MonkeyPatch):
    """After the last try the error says which reservation stands, and that its bound will be charged."""
    monkeypatch.setattr("llm_common.ledger.writer._AFTER", (0.01, 0.01))
    async with Database.connect(line.dsn) as db:
        tracker = CostTracker(db, project="p")
        reservation = await tracker.reserve(call())
        line.cut()
        with pytest.raises(DatabaseUnavailableError, match=f"{reservation.id}.*charged when it expires"):
            await tracker.settle(reservation, cost(7))
    # The first try finds its connection cut, and the two others find no server.
    assert line.dropped == 2


async def test_a_refusal_of_the_database_is_not_tried_again(db: Database):
    """An error that repetition cannot heal comes at once: a released reservation stays released."""
    tracker = CostTracker(db, project="p")
    reservation = await tracker.reserve(call())
    await tracker.release(reservation)
    with pytest.raises(DatabaseError, match=reservation.id):
        await asyncio.wait_for(tracker.settle(reservation, cost(7)), 0.2)
