"""A call that falls back to another model is held to that model's budgets too, before it is sent."""

from uuid import uuid4

import pytest

from llm_common.db.functions.ledger import Limit
from llm_common.exceptions import BudgetExceededError

_A, _B = Limit("model:a", "day", 100), Limit("model:b", "day", 100)


async def extend(books, call_id: str, more: int, model: str = "b", *limits: Limit, extension: str | None = None):
    await books.db.ledger.extend(
        call_id, more, extension_id=extension or str(uuid4()), model=model, provider="y", limits=limits or (_A, _B)
    )


async def test_the_whole_bound_must_fit_the_next_models_budget(books):
    """What was set aside for the first model may end in the second one's row: 60 + 41 is too much for 100."""
    call_id = await books.reserve(60, model="a", limits=[_A])
    with pytest.raises(BudgetExceededError) as refused:
        await extend(books, call_id, 41, "b", _B)
    assert refused.value.budget in {"model:a/day", "model:b/day"}
    assert await books.window("model:a") == (60, 0, 0)
    assert await books.rows("SELECT model, bound_nano, scopes FROM cost_reservations") == [
        ("a", 60, ["project", "model:a"])
    ]
    await extend(books, call_id, 40)
    assert await books.window("model:a") == await books.window("model:b") == (100, 0, 0)


async def test_a_full_budget_of_the_next_model_refuses_although_nothing_more_is_needed(books):
    """A cheaper second model needs no larger reserve, and is refused all the same where its own budget is spent."""
    await books.settle(await books.reserve(90, model="b", limits=[_B]), 90)
    call_id = await books.reserve(50, model="a", limits=[_A])
    with pytest.raises(BudgetExceededError) as refused:
        await extend(books, call_id, 0)
    error = refused.value
    assert error.budget == "model:b/day"
    assert [int(usd * 10**9) for usd in (error.spent_usd, error.reserved_usd, error.requested_usd)] == [90, 0, 50]


async def test_the_one_that_is_paid_keeps_the_cost(books):
    """Settled for the second model, the first one's window is empty again; released, both are."""
    call_id = await books.reserve(50, model="a", limits=[_A])
    await extend(books, call_id, 10)
    await books.settle(call_id, 55, model="b", provider="y")
    assert await books.window("model:a") == (0, 0, 0)
    assert await books.window("model:b") == (0, 55, 0)
    other = await books.reserve(40, model="a", limits=[_A])
    await extend(books, other, 5)
    await books.db.ledger.release(other)
    assert await books.window("model:b") == (0, 55, 0)


async def test_a_dead_call_is_charged_to_the_model_asked_last(books):
    """Its process died while the second model was asked: the row and the window are that one's."""
    call_id = await books.reserve(50, model="a", limits=[_A], hold=0.001)
    await extend(books, call_id, 10)
    await books.rows("UPDATE cost_reservations SET expires_at = now() - interval '1 s' RETURNING 1")
    await books.db.ledger.expire(max_rows=9, project="p")
    assert await books.rows("SELECT model, provider, status, cost_nano(cost_usd) FROM cost_tracking") == [
        ("b", "y", "expired", 60)
    ]
    assert await books.window("model:a") == (0, 0, 0)
    assert await books.window("model:b") == (0, 60, 0)


async def test_the_same_extension_counts_once_for_the_new_model_too(books):
    """Its answer was lost, so it is repeated."""
    call_id, one = await books.reserve(50, model="a", limits=[_A]), str(uuid4())
    for _ in range(2):
        await extend(books, call_id, 10, extension=one)
    assert await books.window("model:b") == (60, 0, 0)
    assert await books.window() == (60, 0, 0)
