"""Reservations that were made without the database, taken in when it is back: each once, on the day it was made."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from llm_common.db.functions.ledger import Entry, Limit

_YESTERDAY = datetime.now(UTC).replace(hour=23, minute=59, second=59) - timedelta(days=1)


async def adopt(books, call_id: str, bound: int = 100, *, at=None, model="m", hold=900.0, limits=(), **call) -> Entry:
    planned = {"kind": "chat", "project": "p", "provider": "x", "model": model, "id": call_id, "bound_nano": bound}
    at = at or datetime.now(UTC)
    return await books.db.ledger.adopt({**planned, **call}, limits, hold_seconds=hold, reserved_at=at)


async def test_it_counts_on_the_day_it_was_made(books):
    """Made a second before midnight and replayed after it, also its settlement is yesterday's."""
    call_id = str(uuid4())
    await adopt(books, call_id, at=_YESTERDAY, hold=86_400 * 2)
    assert await books.window() == (100, 0, 0)
    await books.settle(call_id, 70)
    assert await books.rows("SELECT day, cost_nano FROM cost_daily") == [(_YESTERDAY.date(), 70)]
    assert await books.rows('SELECT "timestamp" FROM cost_tracking') == [(_YESTERDAY,)]


async def test_again_changes_nothing_and_no_limit_refuses_it(books, day_limit):
    """Live, settled or over every limit: the money was spent, and is counted once."""
    call_id, limits = str(uuid4()), [day_limit(10)]
    assert [(await adopt(books, call_id, limits=limits)).changed for _ in range(3)] == [True, False, False]
    assert await books.window() == (100, 0, 0)
    await books.settle(call_id, 70)
    assert (await adopt(books, call_id, limits=limits)).changed is False
    assert await books.window() == (0, 70, 0)


async def test_a_larger_bound_and_another_model_are_taken_over(books):
    """A call that was extended without the database holds what it held at last, in both models' windows."""
    call_id = await books.reserve(60, limits=[Limit("model:m", "day", 100)])
    await adopt(books, call_id, 90, model="n", limits=[Limit("model:n", "day", 100)])
    await adopt(books, call_id, 90, model="n", limits=[Limit("model:n", "day", 100)])
    assert await books.window() == await books.window("model:m") == await books.window("model:n") == (90, 0, 0)


async def test_a_call_that_was_charged_too_little_when_it_expired_is_charged_its_bound(books):
    """The database knew only the first reserve; the larger one was in the spool."""
    call_id = await books.dead(60, user_id="ann")
    await books.db.ledger.expire(max_rows=9, project="p")
    await adopt(books, call_id, 90, user_id="ann")
    await adopt(books, call_id, 90, user_id="ann")
    assert await books.row(call_id) == (90, "expired", "estimate")
    assert await books.window() == (0, 90, 0)


async def test_a_key_that_another_call_has_is_left_out(books):
    """Both calls were paid, so both have a row; live or settled, only the first has the key."""
    await books.reserve(5, idempotency_key="live")
    await books.settle(await books.reserve(5, idempotency_key="used"), 5)
    for key in ("live", "used", "new"):
        call_id = str(uuid4())
        await adopt(books, call_id, idempotency_key=key)
        await books.settle(call_id, 1)
    found = await books.rows("SELECT idempotency_key FROM cost_tracking WHERE cost_usd = 0.000000001 ORDER BY 1")
    assert found == [("new",), (None,), (None,)]


async def test_many_at_once_with_their_settlements_leave_one_row(books):
    """Replays, settlements and releases of one call in any order and at the same time: one row, and the books agree."""
    for _ in range(10):
        call_id = str(uuid4())
        await adopt(books, call_id)
        await asyncio.gather(*(adopt(books, call_id) for _ in range(4)), *(books.settle(call_id, 7) for _ in range(4)))
        assert await books.rows("SELECT cost_nano(cost_usd) FROM cost_tracking WHERE id = %s", call_id) == [(7,)]
    assert await books.rows("SELECT * FROM cost_reservations") == []
