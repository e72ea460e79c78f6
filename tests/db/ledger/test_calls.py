"""One call in the ledger: settled or released once, under a key of its own, and charged if its owner died."""

import asyncio
from uuid import uuid4

import pytest

from llm_common.db.database import Database
from llm_common.db.functions.ledger import Entry
from llm_common.exceptions import BudgetExceededError, DatabaseError, InvalidInputError


async def test_a_settled_call_is_one_row_and_counts_everywhere(books):
    """Reserve and settle leave one row with all that is known, in the windows and in the rollup; nothing stays held."""
    call_id = await books.reserve(100, step="review", user_id="ann", run_id="r", tags={"team": "law"})
    assert await books.window() == (100, 0, 0)
    entry = await books.settle(
        call_id,
        70,
        model="m",
        model_answered="m-2026",
        input_tokens=5,
        cache_read_tokens=4,
        cache_write_tokens=3,
        cache_write_1h_tokens=2,
        output_tokens=9,
        reasoning_tokens=6,
        tokens_used=21,
        latency_ms=1234,
        attempts=2,
    )
    assert entry == Entry(changed=True, spent_today_nano=70)
    columns = (
        "project, kind, provider, model, model_answered, step, run_id, user_id, tags, input_tokens, cache_read_tokens, "
        "cache_write_tokens, cache_write_1h_tokens, output_tokens, reasoning_tokens, tokens_used, cost_usd::text, "
        "bound_usd::text, price_source, status, latency_ms, attempts"
    )
    assert await books.rows(f"SELECT {columns} FROM cost_tracking WHERE id = %s", call_id) == [
        (
            *("p", "chat", "x", "m", "m-2026", "review", "r", "ann", {"team": "law"}, 5, 4, 3, 2, 9, 6, 21),
            *("0.000000070", "0.000000100", "map", "ok", 1234, 2),
        )
    ]
    assert await books.window() == (0, 70, 0)
    assert await books.window(window="month") == (0, 70, 0)
    assert await books.rows("SELECT model, step, calls, failed, tokens, cost_nano FROM cost_daily") == [
        ("m", "review", 1, 0, 21, 70)
    ]
    assert await books.rows("SELECT * FROM cost_reservations") == []


async def test_a_second_settlement_changes_nothing(books):
    """Whatever it says, the second settlement is answered and ignored, and so is a release after it."""
    call_id = await books.reserve()
    await books.settle(call_id, 70)
    again = await books.settle(call_id, 99, status="failed")
    assert again == Entry(changed=False, spent_today_nano=70)
    assert await books.db.ledger.release(call_id) is False
    assert await books.row(call_id) == (70, "ok", "map")


async def test_reserving_again_with_the_same_id_reserves_once(books, day_limit):
    """An answer that was lost on the way can be asked for again."""
    call_id = await books.reserve(100, limits=[day_limit(150)])
    await books.reserve(100, limits=[day_limit(150)], id=call_id)
    assert await books.window() == (100, 0, 0)


async def test_two_settlements_at_once_count_once(books, dsn: str):
    """Of two settlements that race, one changes the books."""
    call_id = await books.reserve()
    async with Database.connect(dsn) as other:
        rival = type(books)(other, books.people)
        entries = await asyncio.gather(*((books, rival)[n % 2].settle(call_id, 70) for n in range(6)))
    assert sorted(entry.changed for entry in entries) == [False] * 5 + [True]
    assert await books.window() == (0, 70, 0)


async def test_a_released_call_leaves_no_row(books):
    """What was not sent is given back, once; settling it afterwards is an error that names it."""
    call_id = await books.reserve()
    assert await books.db.ledger.release(call_id) is True
    assert await books.db.ledger.release(call_id) is False
    assert await books.window() == (0, 0, 0)
    with pytest.raises(DatabaseError, match=call_id) as unknown:
        await books.settle(call_id, 70)
    assert unknown.value.sqlstate == "LC003"


async def test_the_truth_above_the_bound_is_never_refused(books, day_limit):
    """A call that cost more than its bound counts in full, passes the limit visibly, and closes the budget."""
    limits = [day_limit(100)]
    await books.settle(await books.reserve(100, limits=limits), 250)
    assert await books.window() == (0, 250, 150)
    with pytest.raises(BudgetExceededError) as refused:
        await books.reserve(1, limits=limits)
    assert str(refused.value.spent_usd) == "2.50E-7"
    await books.reserve(0, limits=limits)


async def test_another_model_than_the_planned_one_is_charged_to_its_own_windows(books, day_limit):
    """The reserve leaves the planned model's window, the cost enters that of the model that was paid."""
    call_id = await books.reserve(100, limits=[day_limit(500, "model:m")])
    await books.reserve(10, model="dear", limits=[day_limit(500, "model:dear")])
    await books.settle(call_id, 70, model="dear")
    assert await books.window("model:m") == (0, 0, 0)
    assert await books.window("model:dear") == (10, 70, 0)


async def test_a_key_is_good_for_one_call(books):
    """A key that is held, settled or recorded is refused before anything is sent, and names itself."""
    call_id = await books.reserve(idempotency_key="k1")
    for attempt in (books.reserve(idempotency_key="k1"), books.record(5, idempotency_key="k1")):
        with pytest.raises(InvalidInputError, match="k1"):
            await attempt
    await books.settle(call_id, 70)
    with pytest.raises(InvalidInputError, match="k1"):
        await books.reserve(idempotency_key="k1")
    await books.reserve(idempotency_key="k1", project="q")
    assert await books.window() == (0, 70, 0) or await books.differences("q") == []


async def test_a_record_with_a_known_key_or_id_changes_nothing(books):
    """Logging a cost again under its key or its id is answered and ignored."""
    own = str(uuid4())
    assert (await books.record(5, idempotency_key="k")).changed
    assert not (await books.record(9, idempotency_key="k")).changed
    assert (await books.record(5, id=own)).changed
    assert (await books.record(9, id=own)) == Entry(changed=False, spent_today_nano=10)


async def test_a_dead_reservation_is_charged_at_its_bound(books, day_limit):
    """Nobody knows what the provider billed, so the bound counts, marked as an estimate."""
    call_id = await books.dead(100, user_id="ann", limits=[day_limit(500, "user:ann")])
    assert await books.db.ledger.expire(max_rows=10, project="p") == (1, ())
    assert await books.row(call_id) == (100, "expired", "estimate")
    assert await books.window("user:ann") == (0, 100, 0)
    assert await books.rows("SELECT calls, failed, cost_nano FROM cost_daily") == [(1, 1, 100)]


async def test_the_truth_replaces_an_estimate_once(books):
    """A settlement that comes after the expiry corrects row, windows and rollup; the next one changes nothing."""
    call_id = await books.dead(100, idempotency_key="k")
    await books.db.ledger.expire(max_rows=10, project=None)
    assert (await books.settle(call_id, 30, model="other")).changed
    assert not (await books.settle(call_id, 31)).changed
    assert await books.row(call_id) == (30, "ok", "map")
    assert await books.window() == (0, 30, 0)
    assert await books.rows("SELECT model, failed, cost_nano FROM cost_daily WHERE calls > 0") == [("other", 0, 30)]


async def test_a_late_release_takes_the_estimate_back(books):
    """If it turns out that nothing was sent, the charge goes."""
    call_id = await books.dead(100)
    await books.db.ledger.expire(max_rows=10, project="p")
    assert await books.db.ledger.release(call_id) is True
    assert await books.window() == (0, 0, 0)
    assert await books.rows("SELECT * FROM cost_tracking") == []


async def test_the_living_charge_the_dead(books):
    """The next calls of the project charge dead reservations, a few each, so that nobody has to run a sweeper."""
    for _ in range(5):
        await books.dead(10)
    # Each of the five has charged the one before it.
    assert await books.window() == (10, 40, 0)
    await books.reserve(7)
    assert await books.window() == (7, 50, 0)


async def test_an_expiry_frees_no_room(books, day_limit):
    """A dead reservation counts after its expiry as much as before."""
    limits = [day_limit(100)]
    await books.dead(100, limits=limits)
    for _ in range(2):
        with pytest.raises(BudgetExceededError):
            await books.reserve(1, limits=limits)
        await books.db.ledger.expire(max_rows=10, project="p")


async def test_expiry_takes_so_many_and_of_one_project(books):
    """At most `max_rows` are charged at once, of one project or of all."""
    for project in ("p", "p", "p", "q"):
        await books.reserve(1, project=project)
    await books.people.execute("UPDATE cost_reservations SET expires_at = now() - INTERVAL '1 s'")
    assert (await books.db.ledger.expire(max_rows=2, project="p"))[0] == 2
    assert (await books.db.ledger.expire(max_rows=9, project=None))[0] == 2
    assert await books.differences("q") == []


async def test_an_extension_counts_once_and_is_held_to_the_limits(books, day_limit):
    """The same extension twice is one; the limits of the reserve bind it; a refused one leaves the reserve alone."""
    call_id, one = await books.reserve(50, limits=[day_limit(100)]), str(uuid4())
    for _ in range(2):
        await books.db.ledger.extend(call_id, 30, extension_id=one)
    assert await books.window() == (80, 0, 0)
    with pytest.raises(BudgetExceededError) as refused:
        await books.db.ledger.extend(call_id, 21, extension_id=str(uuid4()))
    assert str(refused.value.reserved_usd) == "8.0E-8"
    assert await books.window() == (80, 0, 0)
    await books.settle(call_id, 80)
    with pytest.raises(DatabaseError, match="cannot be extended"):
        await books.db.ledger.extend(call_id, 1, extension_id=str(uuid4()))


async def test_an_extension_renews_the_hold(books):
    """A call that goes on is not taken for dead by the clock of its first request."""
    call_id = await books.reserve(hold=0.2)
    await asyncio.sleep(0.1)
    await books.db.ledger.extend(call_id, 1, extension_id=str(uuid4()))
    await asyncio.sleep(0.15)
    assert await books.db.ledger.expire(max_rows=9, project="p") == (0, ())
