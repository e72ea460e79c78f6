"""The SQL ledger against a model of it in a few lines of Python: any history leads to the same books."""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_common.db.database import Database
from llm_common.db.functions.ledger import Limit
from llm_common.exceptions import BudgetExceededError, DatabaseError

_LIMIT = 100
_USERS = ("ann", "bob")


@dataclass
class Model:
    """What was set aside and what was spent, by call: id → (user, nano-dollars)."""

    held: dict[str, tuple[str, int]] = field(default_factory=dict)
    paid: dict[str, tuple[str, int]] = field(default_factory=dict)
    expired: set[str] = field(default_factory=set)

    def used(self, user: str | None = None) -> int:
        calls = [*self.held.values(), *self.paid.values()]
        return sum(nano for owner, nano in calls if user in (None, owner))

    def reserve(self, call_id: str, user: str, bound: int) -> bool:
        if bound and (self.used() + bound > _LIMIT or self.used(user) + bound > _LIMIT // 2):
            return False
        self.held[call_id] = (user, bound)
        return True

    def extend(self, call_id: str, more: int) -> bool:
        user, bound = self.held.pop(call_id)
        fits = self.reserve(call_id, user, 0) and not (
            more and (self.used() + bound + more > _LIMIT or self.used(user) + bound + more > _LIMIT // 2)
        )
        self.held[call_id] = (user, bound + more if fits else bound)
        return fits

    def settle(self, call_id: str, cost: int) -> bool:
        if call_id in self.held:
            self.paid[call_id] = (self.held.pop(call_id)[0], cost)
            return True
        if call_id in self.expired:
            self.expired.remove(call_id)
            self.paid[call_id] = (self.paid[call_id][0], cost)
            return True
        return False

    def release(self, call_id: str) -> bool:
        if call_id in self.expired:
            self.expired.remove(call_id)
            del self.paid[call_id]
            return True
        return self.held.pop(call_id, None) is not None

    def expire(self, call_id: str) -> None:
        if call_id in self.held:
            self.paid[call_id] = self.held.pop(call_id)
            self.expired.add(call_id)


_amount = st.integers(0, 60)
_which = st.integers(0, 9)
_step = st.one_of(
    st.tuples(st.just("reserve"), st.sampled_from(_USERS), _amount),
    st.tuples(st.just("extend"), _which, _amount),
    st.tuples(st.just("settle"), _which, _amount),
    st.tuples(st.just("release"), _which, st.none()),
    st.tuples(st.just("expire"), _which, st.none()),
)


async def _reserve(db: Database, project: str, call_id: str, user: str, bound: int) -> bool:
    call = {"kind": "chat", "provider": "x", "model": "m", "id": call_id, "project": project}
    limits = [Limit("project", "day", _LIMIT), Limit(f"user:{user}", "month", _LIMIT // 2)]
    try:
        await db.ledger.reserve({**call, "user_id": user, "bound_nano": bound}, limits, hold_seconds=900)
    except BudgetExceededError:
        return False
    return True


async def _extend(db: Database, call_id: str, more: int) -> bool:
    try:
        await db.ledger.extend(call_id, more, extension_id=str(uuid4()))
    except BudgetExceededError:
        return False
    return True


async def _settle(db: Database, call_id: str, cost: int) -> bool:
    outcome = {"cost_nano": cost, "price_source": "map", "status": "ok"}
    try:
        return (await db.ledger.settle(call_id, outcome)).changed
    except DatabaseError as error:
        # It was released.
        if error.sqlstate != "LC003":
            raise
        return False


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_step, max_size=14))
async def test_any_history_leads_to_the_same_books(books, steps: list[tuple[str, Any, Any]]):
    """Each step is allowed or refused as in the model, and leaves the same spend and reserve in every window."""
    project, model, calls = f"p-{uuid4()}", Model(), []
    for what, which, amount in steps:
        if what == "reserve":
            calls.append(str(uuid4()))
            expected = model.reserve(calls[-1], which, amount)
            assert await _reserve(books.db, project, calls[-1], which, amount) is expected
            continue
        if not calls:
            continue
        call_id = calls[which % len(calls)]
        if what == "extend" and call_id in model.held:
            expected = model.extend(call_id, amount)
            assert await _extend(books.db, call_id, amount) is expected
        elif what == "settle":
            expected = model.settle(call_id, amount)
            assert await _settle(books.db, call_id, amount) is expected
        elif what == "release":
            expected = model.release(call_id)
            assert await books.db.ledger.release(call_id) is expected
        elif what == "expire":
            model.expire(call_id)
            await books.rows(
                "UPDATE cost_reservations SET expires_at = now() - interval '1 s' WHERE id = %s RETURNING 1", call_id
            )
            await books.db.ledger.expire(max_rows=10, project=project)
        counted = dict(
            await books.rows(
                'SELECT scope, reserved_nano + spent_nano FROM budget_windows WHERE project = %s AND "window" = '
                "(CASE scope WHEN 'project' THEN 'day' ELSE 'month' END)",
                project,
            )
        )
        assert counted == {
            scope: model.used(None if scope == "project" else scope.removeprefix("user:")) for scope in counted
        }
    assert await books.differences(project) == []
