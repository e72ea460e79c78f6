"""Searches that the cache answered are in the ledger: at cost 0, apart from those that were paid, many to a row."""

from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest

from llm_common.cost_tracker import CostSummary, CostTracker
from llm_common.db.database import Database
from llm_common.exceptions import DatabaseUnavailableError, LLMCommonError
from llm_common.ledger.local import LocalLedger
from llm_common.models import Outcome, PlannedCall
from llm_common.search.providers.local import Document, LocalProvider
from llm_common.web_search import WebSearchClient

PRICE = Decimal("0.01")


class Forgetful(CostTracker):
    """Writes, but the first answer gets lost on the way."""

    lost = False

    async def record(self, call: PlannedCall, outcome: Outcome) -> None:
        await super().record(call, outcome)
        if not self.lost:
            self.lost = True
            raise DatabaseUnavailableError("the connection to the database failed")


def client(db: Database, tracker: CostTracker | LocalLedger) -> WebSearchClient:
    provider = LocalProvider([Document("https://example.com/", "A bill", "a bill on fees")])
    return WebSearchClient(None, db, provider=provider, cost_tracker=tracker, price_usd=PRICE)


def rows(dsn: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT * FROM check_cost_ledger('p')").fetchall() == []
        return connection.execute(
            "SELECT kind, step, user_id, calls, cost_nano(cost_usd) FROM cost_tracking ORDER BY kind, user_id, calls"
        ).fetchall()


async def by(tracker: CostTracker, group: str) -> dict[str, CostSummary]:
    today = datetime.now(UTC).date()
    return {one.key: one for one in await tracker.summarize(today, today, group)}


async def test_hits_are_counted_apart(db: Database, dsn: str):
    """By whoever would have paid; they spend nothing of a budget, and all reports know them from paid searches."""
    tracker = CostTracker(db, "1", project="p")
    async with client(db, tracker) as search:
        for user in ("ann", "ann", "ann", "bob"):
            await search.search("a bill", step="research", user_id=user)
        assert (await search.get_cache_stats())["cache_hits"] == 3
    assert rows(dsn) == [
        ("cache_hit", "research", "ann", 2, 0),
        ("cache_hit", "research", "bob", 1, 0),
        ("search", "research", "ann", 1, 10_000_000),
    ]
    for group, key in (("provider", "local"), ("step", "research"), ("project", "p")):
        [(name, found)] = (await by(tracker, group)).items()
        assert (name, found.calls, found.cache_hits, found.cost_usd) == (key, 4, 3, PRICE)
    users = await by(tracker, "user")
    assert {user: (found.calls, found.cache_hits) for user, found in users.items()} == {"ann": (3, 2), "bob": (1, 1)}
    assert [status.spent_usd for status in await tracker.budget_status()] == [PRICE, PRICE]


async def test_a_hit_is_written_once_though_its_answer_is_lost(db: Database, dsn: str):
    """What may have arrived is handed over again, and counts once; later hits come on top."""
    tracker = Forgetful(db, project="p")
    async with client(db, tracker) as search:
        for _ in range(3):
            await search.search("a bill")
        await search.get_cache_stats()
        assert tracker.lost
        await search.search("a bill")
    assert [row[3] for row in rows(dsn) if row[0] == "cache_hit"] == [1, 2]


async def test_a_client_without_a_database_counts_no_rows(db: Database, dsn: str):
    """A ledger of this process alone has no rows; it is told all the same, and spends nothing."""
    ledger = LocalLedger()
    async with client(db, ledger) as search:
        for _ in range(3):
            await search.search("a bill")
    assert ledger.spent_today_nano == 10_000_000
    assert rows(dsn) == []


@pytest.mark.parametrize(
    "wrong",
    [{"calls": 0}, {"calls": -1}, {"calls": 2, "kind": "search"}, {"calls": 2, "cost_nano": 1}],
)
async def test_only_free_hits_are_gathered(db: Database, dsn: str, wrong: dict[str, int | str]):
    """What was paid for has a row of its own; a refused row changes nothing."""
    row = {"project": "p", "model": "m", "cost_nano": 0, "kind": "cache_hit", **wrong}
    with pytest.raises(LLMCommonError):
        await db.ledger.record(row, [])
    assert rows(dsn) == []
