"""Everything at once, over several connections."""

import asyncio
import random
from contextlib import AsyncExitStack
from uuid import uuid4

from llm_common.db.database import Database
from llm_common.db.functions.ledger import Limit

_PROJECTS = ("p", "q", "r")
_LIMITS = (Limit("project", "day", 10**9, 0.5), Limit("user:ann", "total", 10**9))


async def _live(db: Database, chance: random.Random, truths: dict[str, int | None]) -> None:
    """One call whose hold is so short that it is often charged as dead before its owner comes with the truth."""
    call_id, project = str(uuid4()), chance.choice(_PROJECTS)
    call = {"id": call_id, "project": project, "kind": "chat", "provider": "x", "user_id": "ann", "bound_nano": 100}
    hold = chance.choice((0.002, 60))
    await db.ledger.reserve({**call, "model": chance.choice("mn"), "tags": {"t": "u"}}, _LIMITS, hold_seconds=hold)
    await asyncio.sleep(chance.random() * 0.005)
    if hold == 60 and chance.random() < 0.3:
        await db.ledger.extend(call_id, 50, extension_id=str(uuid4()))
    if chance.random() < 0.2:
        truths[call_id] = None
        await db.ledger.release(call_id)
        return
    truths[call_id] = chance.randrange(200)
    outcome = {"cost_nano": truths[call_id], "price_source": "map", "status": "ok", "model": chance.choice("mn")}
    await asyncio.gather(db.ledger.settle(call_id, outcome), db.ledger.settle(call_id, outcome))


async def _sweep(db: Database, project: str | None) -> None:
    while True:
        await db.ledger.expire(max_rows=5, project=project)
        await asyncio.sleep(0.001)


async def test_calls_and_sweepers_of_several_projects_never_block_each_other(books, dsn: str):
    """Reserve, extend, settle, release and expire race in three projects: no deadlock, every truth in its row."""
    truths: dict[str, int | None] = {}
    async with AsyncExitStack() as stack:
        dbs = [await stack.enter_async_context(Database.connect(dsn)) for _ in range(3)]
        sweepers = [
            asyncio.create_task(_sweep(db, project)) for db, project in zip(dbs, ("p", None, None), strict=True)
        ]
        chance = random.Random(11)
        await asyncio.gather(*(_live(dbs[n % 3], chance, truths) for n in range(240)))
        for sweeper in sweepers:
            assert not sweeper.done()
            sweeper.cancel()
        await asyncio.gather(*sweepers, return_exceptions=True)
    paid = await books.rows("SELECT id::text, cost_nano(cost_usd) FROM cost_tracking")
    assert dict(paid) == {call_id: cost for call_id, cost in truths.items() if cost is not None}
    assert await books.rows("SELECT * FROM cost_reservations") == []
    for project in _PROJECTS:
        assert await books.differences(project) == []
    assert {scope for (scope,) in await books.rows("SELECT DISTINCT scope FROM cost_alerts")} <= {"project"}
