"""A provider that bills more than its listed price: the first such bill makes all further reservations true."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from llm_common.exceptions import BudgetExceededError
from llm_common.ledger.local import LocalLedger
from llm_common.llm_client import LLMClient
from llm_common.models import Budget
from llm_common.testing import ChatRequest, FakeProvider, Reply
from llm_common.testing.billing import TokenPrice
from tests.faults.ledger.overbilled_callers import LISTED, MODEL
from tests.support.programs import running

CALLERS = Path(__file__).with_name("overbilled_callers.py")
PROCESSES, AT_ONCE, BUDGET = 2, 2, "0.05"
#: Two and a half times the list.
BILLED = TokenPrice(input=Decimal("2.5"), output=Decimal(25))


def whole(request: ChatRequest) -> Reply:
    """As many tokens as were allowed: the bound by the list is what the list says of the answer."""
    return Reply(text="yes " * 400)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProvider]:
    with FakeProvider.serve_in_thread(answer=whole, default_price=BILLED) as provider:
        for name, value in provider.environment().items():
            monkeypatch.setenv(name, value)
        yield provider


def test_after_the_first_such_bill_no_budget_is_passed(dsn: str, provider: FakeProvider) -> None:
    """Two processes of two calls at once: what was in flight then is far from the limit, and the rest is true."""
    with ExitStack() as stack:
        callers = [
            stack.enter_context(running(CALLERS, dsn, AT_ONCE, BUDGET, env=dict(os.environ))) for _ in range(PROCESSES)
        ]
        assert [caller.line() for caller in callers] == ["ready"] * PROCESSES
        for caller in callers:
            caller.send()
        answered = sum(int(caller.finish()) for caller in callers)
    assert answered > 2 * PROCESSES * AT_ONCE
    assert provider.billed_usd <= Decimal(BUDGET)
    with psycopg.connect(dsn) as connection:
        [(spent, rows)] = connection.execute("SELECT sum(cost_usd), count(*) FROM cost_tracking").fetchall()
        [(factor,)] = connection.execute("SELECT factor FROM cost_price_factors").fetchall()
        assert connection.execute("SELECT * FROM check_cost_ledger('p')").fetchall() == []
    assert (rows, float(spent)) == (answered, pytest.approx(float(provider.billed_usd), abs=1e-6))
    assert factor == pytest.approx(2.5, rel=0.02)


async def test_in_one_process_without_a_database(provider: FakeProvider, caplog: pytest.LogCaptureFixture) -> None:
    """The ledger of a process remembers too, and it is said once."""
    ledger = LocalLedger([Budget(Decimal(BUDGET))])
    async with LLMClient(cost_tracker=ledger, prices={MODEL: LISTED}) as llm:
        with caplog.at_level(logging.WARNING), pytest.raises(BudgetExceededError):
            while True:
                await llm.complete("Is it?", MODEL, max_tokens=100)
    assert provider.billed_usd <= Decimal(BUDGET)
    assert len(provider.requests) > 3
    assert sum("times the listed price" in record.message for record in caplog.records) == 1


async def test_a_provider_that_bills_its_list_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the whole budget can be spent where the list is true."""
    price = TokenPrice(input=Decimal(1), output=Decimal(10))
    with FakeProvider.serve_in_thread(answer=whole, default_price=price) as provider:
        for name, value in provider.environment().items():
            monkeypatch.setenv(name, value)
        ledger = LocalLedger([Budget(Decimal(BUDGET))])
        async with LLMClient(cost_tracker=ledger, prices={MODEL: LISTED}) as llm:
            with pytest.raises(BudgetExceededError):
                while True:
                    await llm.complete("Is it?", MODEL, max_tokens=100)
        assert ledger._factors == {}
        assert provider.billed_usd > Decimal(BUDGET) * Decimal("0.9")
