"""Cache hits on their way to the ledger: none is lost without a word, whatever the ledgers do."""

import asyncio
import logging

import pytest

from llm_common.exceptions import DatabaseUnavailableError
from llm_common.ledger.local import LocalLedger
from llm_common.models import Outcome, PlannedCall
from llm_common.search import recorded_hits
from llm_common.search.paid_search import Payer
from llm_common.search.recorded_hits import RecordedHits


class HostLedger(LocalLedger):
    """A host's own, which is away at times, and keeps what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str | None, int]] = []
        self.away = False
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def record(self, call: PlannedCall, outcome: Outcome) -> None:
        self.asked += 1
        await self.answers.wait()
        if self.away:
            raise DatabaseUnavailableError("away")
        self.rows.append((call.user_id, outcome.calls))


def note(hits: RecordedHits, ledger: HostLedger, user: str, number: int = 1) -> None:
    for _ in range(number):
        hits.note(Payer(ledger, user_id=user), "zai/search")


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_ledger_that_is_away_holds_up_no_other() -> None:
    """It is asked once per batch; the others have theirs; its own come in order when it is back."""
    hits, here, away = RecordedHits("zai"), HostLedger(), HostLedger()
    away.away = True
    for batch in (1, 2):
        note(hits, away, "ann", batch)
        note(hits, away, "bob", batch)
        note(hits, here, "cid", batch)
        await hits.hand_over()
    assert (away.asked, here.rows) == (2, [("cid", 1), ("cid", 2)])
    away.away = False
    await hits.hand_over()
    assert away.rows == [("ann", 1), ("bob", 1), ("ann", 2), ("bob", 2)]
    assert not hits.waits


async def test_a_long_outage_makes_no_heap_of_rows() -> None:
    """What a payer does meanwhile is one row, however often it is tried."""
    hits, away = RecordedHits("zai"), HostLedger()
    away.away = True
    for _ in range(50):
        note(hits, away, "ann")
        await hits.hand_over()
    away.away = False
    await hits.hand_over()
    assert away.rows == [("ann", 1), ("ann", 49)]


async def test_a_hand_over_that_is_cut_off_is_done_again() -> None:
    """Cancelled while the ledger is asked, nothing is gone, and what was not asked for yet neither."""
    hits, ledger = RecordedHits("zai"), HostLedger()
    note(hits, ledger, "ann", 2)
    note(hits, ledger, "bob", 3)
    ledger.answers.clear()
    handing_over = asyncio.ensure_future(hits.hand_over())
    await asyncio.sleep(0)
    handing_over.cancel()
    await asyncio.wait({handing_over})
    assert handing_over.cancelled()
    ledger.answers.set()
    await hits.aclose()
    assert ledger.rows == [("ann", 2), ("bob", 3)]


async def test_what_no_ledger_took_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """At the end, with the number of hits; nothing is told where all is written down."""
    hits, here, away = RecordedHits("zai"), HostLedger(), HostLedger()
    away.away = True
    note(hits, here, "ann", 7)
    note(hits, away, "bob", 5)
    await hits.hand_over()
    note(hits, away, "bob", 6)
    await hits.aclose()
    assert here.rows == [("ann", 7)]
    assert errors(caplog) == ["11 cache hits are not in the ledger, and are lost if the process ends now: it fails"]
    caplog.clear()
    away.away = False
    await hits.aclose()
    assert away.rows == [("bob", 5), ("bob", 6)]
    assert errors(caplog) == []


async def test_what_is_too_much_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond so many payers in one batch, hits of new ones are let go, which is an error in the log."""
    monkeypatch.setattr(recorded_hits, "_MAX_PAYERS", 2)
    hits, ledger = RecordedHits("zai"), HostLedger()
    for user in ("ann", "bob", "cid", "ann", "dan"):
        note(hits, ledger, user)
    await hits.hand_over()
    assert ledger.rows == [("ann", 2), ("bob", 1)]
    assert errors(caplog) == ["2 cache hits will be in no ledger: those of 2 payers wait already"]
